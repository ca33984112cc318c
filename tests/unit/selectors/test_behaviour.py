"""The selector on what programs do: groups, ties, and what it refuses."""

import numpy as np
import pytest

from nad_agents.exceptions import ConfigurationError
from nad_agents.selection import check_configuration
from nad_agents.selectors import Behaviour, BehaviourGroups, NADFusion, get_selector, rank
from nad_agents.selectors.assertions import b4_scores
from nad_agents.selectors.fusion import rank_share
from nad_agents.selectors.observations import label_outcomes
from nad_agents.types import NADConfig, SamplingConfig
from tests.unit.builders import (
    SeenAssertions,
    SeenBehaviour,
    SeenOutcome,
    WordAssertions,
    WordObserver,
    make_group,
    make_rollout,
)


def candidates(*texts, logprobs=-1.0, neurons=None):
    return make_group(
        [
            make_rollout([[0]] if neurons is None else [neurons[i]], tokens=[i], text=text, logprobs=logprobs)
            for i, text in enumerate(texts)
        ],
        prompt="double it",
    )


def test_agreement_counts_on_each_input_and_a_crash_agrees_with_nobody():
    observer = WordObserver()
    group = candidates("2 4", "crash crash", "2 5", "crash crash", "2 4", "crash crash", "2 crash")
    scores = Behaviour(runner=observer).score(group)
    # of 6 others and 2 inputs: on the first, 3 others do the same as each of four; on the second, two agree
    assert scores.values == pytest.approx([4 / 12, 0, 3 / 12, 0, 4 / 12, 0, 3 / 12])
    assert scores.details["groups"] == [0, 3, 1, 3, 0, 3, 2]
    assert scores.details["behaviours"][0] == {"size": 2, "outcomes": ["2", "4"]}
    assert scores.details["behaviours"][3] == {"size": 3, "outcomes": ["crash", "crash"]}
    assert scores.details["inputs"] == ["f(0)", "f(1)"]
    assert observer.asked[0][1] == "double it"
    assert rank(scores, group)[:2] == [0, 4]


def test_one_odd_input_breaks_a_group_but_not_the_soft_vote():
    # the first three agree on all inputs but one each; the last two are wrong in the same way everywhere
    group = candidates("1 2 9", "1 8 3", "7 2 3", "0 0 0", "0 0 0")
    soft, exact = Behaviour(runner=WordObserver()), BehaviourGroups(runner=WordObserver())
    assert soft.score(group).values == pytest.approx([2 / 12, 2 / 12, 2 / 12, 3 / 12, 3 / 12])
    assert exact.score(group).values.tolist() == [1, 1, 1, 2, 2]
    group = candidates("1 2 9", "1 8 3", "7 2 3", "1 2 3", "0 0 0", "0 0 0")
    assert rank(soft.score(group), group)[0] == 3
    assert rank(exact.score(group), group)[0] in (4, 5)


def test_assertions_that_a_model_wrote_count_as_much_as_the_behaviour():
    group = candidates("1 2", "1 2", "3 4", "3 4", "3 4", "0 0", "")
    group.rollouts[6] = make_rollout([], text="")
    observer, assertions = WordObserver(), WordAssertions("1", "2")
    plain = Behaviour(runner=observer).score(group)
    scores = Behaviour(runner=observer, assertions=assertions).score(group)
    passed = np.array([[1, 1]] * 2 + [[0, 0]] * 4, dtype=bool)
    expected = (rank_share(plain.values[:6]) + rank_share(b4_scores(passed))) / 2
    assert scores.values[:6] == pytest.approx(expected)
    assert np.isnan(scores.values[6])
    assert set(rank(plain, group)[:3]) == {2, 3, 4}
    assert set(rank(scores, group)[:2]) == {0, 1}
    assert scores.details["assertions"] == ["1", "2"]
    assert scores.details["passed"] == [2, 2, 0, 0, 0, 0, None]
    assert scores.details["inputs"] == plain.details["inputs"]


def test_without_assertions_the_behaviour_decides_alone():
    class NoAssertions(WordAssertions):
        def check(self, answers, *, prompt=""):
            return SeenAssertions([], [[] for _ in answers])

    group = candidates("1 2", "3 4", "3 4")
    plain, scores = (
        Behaviour(runner=WordObserver(), assertions=given).score(group) for given in (None, NoAssertions())
    )
    assert scores.values.tolist() == plain.values.tolist()
    assert "assertions" not in scores.details
    with pytest.raises(
        ConfigurationError, match=r"behaviour: assertions='x' runs no programs; give nad_sandbox.Assert"
    ):
        get_selector("behaviour", runner=WordObserver(), assertions="x")


def test_groups_count_candidates_that_do_the_same_on_every_input():
    group = candidates("2 4", "crash crash", "2 5", "crash crash", "2 4", "crash crash", "2 crash")
    scores = BehaviourGroups(runner=WordObserver()).score(group)
    assert scores.values.tolist() == [2, 0, 1, 0, 2, 0, 1]
    assert scores.details["groups"] == [0, 3, 1, 3, 0, 3, 2]


def test_outcomes_are_numbered_on_each_input_failures_below_zero():
    seen = WordObserver().observe(["a crash", "b x", "a y", "crash x"])
    assert label_outcomes(seen.outcomes).tolist() == [[0, -1], [1, 0], [0, 1], [-1, 0]]
    assert label_outcomes([]).shape == (0, 0)


def test_what_one_program_does_on_purpose_is_a_result_of_all_that_do_the_same():
    class Raised(SeenOutcome):
        @property
        def crashed(self):
            return "on purpose" not in self.text

        def matches(self, other):
            return self.text.split()[0] == other.text.split()[0]

    on_input = [Raised("KeyError"), Raised("ValueError"), Raised("ValueError on purpose"), Raised("IndexError")]
    assert label_outcomes([[outcome] for outcome in on_input]).ravel().tolist() == [-1, 0, 0, -2]


def test_ties_are_broken_by_neuron_agreement_and_log_probability():
    # all alike in what they do; 1 and 2 share neurons
    group = candidates("2", "2", "2", neurons=[[9], [1], [1]])
    assert rank(Behaviour(runner=WordObserver()).score(group), group) == [1, 2, 0]
    unrecorded = make_group(
        [make_rollout([[]], tokens=[i], text="2", logprobs=value) for i, value in enumerate((-3.0, -1.0, -2.0))]
    )
    assert rank(Behaviour(runner=WordObserver()).score(unrecorded), unrecorded) == [1, 2, 0]


def test_where_nothing_can_be_observed_agreement_ranks_and_the_evidence_says_so():
    class Nothing:
        def observe(self, answers, *, prompt=""):
            return SeenBehaviour([], [[] for _ in answers])

    group = candidates("2", "2", "2", neurons=[[9], [1], [1]])
    scores = Behaviour(runner=Nothing()).score(group)
    assert rank(scores, group) == [1, 2, 0]
    assert scores.values.tolist() == NADFusion().score(group).values.tolist()
    assert scores.details["inputs"] == scores.details["groups"] == []
    assert "nothing that the programs do can be observed" in scores.details["note"]
    failing = candidates("crash", "crash", "crash", neurons=[[9], [1], [1]])
    scores = Behaviour(runner=WordObserver()).score(failing)
    assert rank(scores, failing) == [1, 2, 0]
    assert "no program gives a result" in scores.details["note"]


def test_a_module_that_the_sandbox_lacks_is_named():
    class Lacking(SeenOutcome):
        @property
        def missing_module(self):
            return "attr" if self.crashed else None

    class Observer(WordObserver):
        def observe(self, answers, *, prompt=""):
            seen = super().observe(answers, prompt=prompt)
            return SeenBehaviour(seen.inputs, [[Lacking(one.text) for one in row] for row in seen.outcomes])

    some = Behaviour(runner=Observer()).score(candidates("crash", "2", "2", neurons=[[9], [1], [1]]))
    assert some.details["missing_modules"] == {"attr": 1}
    assert "note" not in some.details
    none = Behaviour(runner=Observer()).score(candidates("crash", "crash", "crash", neurons=[[9], [1], [1]]))
    assert none.details["missing_modules"] == {"attr": 3}
    assert none.details["note"].startswith("the programs import attr, which the sandbox lacks")


def test_empty_candidates_are_not_run_and_rank_last():
    observer = WordObserver()
    group = make_group([make_rollout([]), make_rollout([[0]], text="2"), make_rollout([[0]], text="2")])
    scores = Behaviour(runner=observer).score(group)
    assert np.isnan(scores.values[0])
    assert scores.values[1:].tolist() == [1, 1]
    assert scores.details["groups"] == [None, 0, 0]
    assert len(observer.asked[0][0]) == 2
    assert np.isnan(Behaviour(runner=observer).score(make_group([make_rollout([])])).values).all()


def test_without_a_runner_it_says_what_to_give():
    with pytest.raises(ConfigurationError, match=r"selector_options=\{'runner': nad_sandbox.BehaviourRunner"):
        get_selector("behaviour")


@pytest.mark.parametrize(("selector", "options"), [("behaviour", {"runner": WordObserver()}), ("majority", {})])
def test_whole_answers_do_not_go_with_early_stopping(selector, options):
    config = NADConfig(selector=selector, selector_options=options, pruning="first_chunk")
    with pytest.raises(ConfigurationError, match="compares whole answers"):
        check_configuration(SamplingConfig(n=4), config)
    check_configuration(SamplingConfig(n=4), config.model_copy(update={"pruning": "never"}))
