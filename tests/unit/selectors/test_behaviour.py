"""The selector on what programs do: groups, ties, and what it refuses."""

import numpy as np
import pytest

from nad_agents.exceptions import ConfigurationError
from nad_agents.selection import check_configuration
from nad_agents.selectors import Behaviour, get_selector, rank
from nad_agents.types import NADConfig, SamplingConfig
from tests.unit.builders import WordObserver, make_group, make_rollout


def candidates(*texts, logprobs=-1.0, neurons=None):
    return make_group(
        [
            make_rollout([[0]] if neurons is None else [neurons[i]], tokens=[i], text=text, logprobs=logprobs)
            for i, text in enumerate(texts)
        ],
        prompt="double it",
    )


def test_the_largest_group_wins_and_what_fails_everywhere_comes_last():
    observer = WordObserver()
    group = candidates("2 4", "crash crash", "2 5", "crash crash", "2 4", "crash crash", "2 crash")
    scores = Behaviour(runner=observer).score(group)
    assert scores.values.tolist() == [2, 0, 1, 0, 2, 0, 1]
    assert scores.details["groups"] == [0, 3, 1, 3, 0, 3, 2]
    assert scores.details["behaviours"][0] == {"size": 2, "outcomes": ["2", "4"]}
    assert scores.details["behaviours"][3] == {"size": 3, "outcomes": ["crash", "crash"]}
    assert scores.details["inputs"] == ["f(0)", "f(1)"]
    assert observer.asked[0][1] == "double it"
    assert rank(scores, group)[:2] == [0, 4]


def test_ties_are_broken_by_neuron_agreement_then_by_log_probability():
    # all alike in what they do; 1 and 2 share neurons
    group = candidates("2", "2", "2", neurons=[[9], [1], [1]])
    assert rank(Behaviour(runner=WordObserver()).score(group), group) == [1, 2, 0]
    unrecorded = make_group(
        [make_rollout([[]], tokens=[i], text="2", logprobs=value) for i, value in enumerate((-3.0, -1.0, -2.0))]
    )
    assert rank(Behaviour(runner=WordObserver()).score(unrecorded), unrecorded) == [1, 2, 0]


def test_empty_candidates_are_not_run_and_rank_last():
    observer = WordObserver()
    group = make_group([make_rollout([]), make_rollout([[0]], text="2"), make_rollout([[0]], text="2")])
    scores = Behaviour(runner=observer).score(group)
    assert np.isnan(scores.values[0])
    assert scores.values[1:].tolist() == [2, 2]
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
