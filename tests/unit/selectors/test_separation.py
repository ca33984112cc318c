"""Inputs that separate the two leading groups: when they are asked for, what decides, and what is reported."""

import pytest

from nad_agents import NADConfig, SamplingConfig
from nad_agents.exceptions import ConfigurationError
from nad_agents.input_proposals import ModelSeparator
from nad_agents.selectors import Behaviour, rank
from nad_agents.self_evaluation import ModelJudge
from tests.unit.builders import WordObserver, make_group, make_rollout
from tests.unit.decoders import NEURONS, decoder, loaded
from tests.unit.langchain.chats import tiny_chat, tiny_decoder


class Places:
    """A separator that proposes fixed places of the answers' texts."""

    def __init__(self, *places):
        self.places = places
        self.asked = []

    def separate(self, prompt, first, second, parameters):
        self.asked.append((prompt, first, second, dict(parameters)))
        return list(self.places), 7


class Likes:
    """A judge that prefers one result."""

    def __init__(self, result):
        self.result = result
        self.cases = []

    def prefer(self, task, cases):
        self.cases += [(task, *case) for case in cases]
        return [0.9 if first == self.result else 0.1 for _, first, _ in cases]


def candidates(*texts):
    rollouts = [make_rollout([[0]], tokens=[i], text=text, logprobs=-1.0 - i) for i, text in enumerate(texts)]
    return make_group(rollouts, prompt="task")


GROUP = candidates("pq", "pq", "rq", "rq", "rz")


def test_on_separating_inputs_the_vote_of_all_candidates_decides():
    assert rank(Behaviour(runner=WordObserver()).score(GROUP), GROUP)[0] == 0
    separator = Places(0, 1)
    scores = Behaviour(runner=WordObserver(), separate=separator).score(GROUP)
    # on the first input one more candidate does what the second group does; on the second input the two do the same
    assert scores.values == pytest.approx([2 / 8, 2 / 8, 3 / 8, 3 / 8, 2 / 8])
    assert rank(scores, GROUP)[:2] == [2, 3]
    assert separator.asked == [("task", "pq", "rq", {"place": {"type": "integer"}})]
    found = scores.details["separation"]
    assert found.pop("seconds") >= 0
    assert found == {
        "candidates": [0, 2],
        "proposed": 2,
        "inputs": ["f(0)"],
        "outcomes": [["p"], ["r"]],
        "decided_by": "vote",
        "generated_tokens": 7,
        "questions": 0,
    }
    assert scores.details["inputs"] == ["f(0)", "f(0)"]
    assert scores.votes.shape == (5, 2)


@pytest.mark.parametrize(("result", "first"), [("p", [0, 1]), ("r", [2, 3])])
def test_a_judge_of_the_results_decides_instead(result, first):
    judge = Likes(result)
    scores = Behaviour(runner=WordObserver(), separate=Places(0), judge=judge).score(GROUP)
    assert rank(scores, GROUP)[:2] == first
    assert judge.cases == [("task", "f(0)", "p", "r")]
    assert scores.details["separation"]["decided_by"] == "judge"
    assert scores.details["separation"]["questions"] == 2


def test_inputs_that_do_not_separate_change_nothing():
    before = Behaviour(runner=WordObserver()).score(GROUP)
    scores = Behaviour(runner=WordObserver(), separate=Places(1), judge=Likes("p")).score(GROUP)
    assert scores.values.tolist() == before.values.tolist()
    assert scores.details["separation"]["decided_by"] is None
    assert scores.details["separation"]["generated_tokens"] == 7
    empty = Behaviour(runner=WordObserver(), separate=Places()).score(GROUP)
    assert empty.values.tolist() == before.values.tolist()


@pytest.mark.parametrize(
    "group",
    [["a", "a", "a", "a", "b"], ["a", "a", "crash"], ["a", "a"], ["crash", "crash"]],
    ids=["a clear lead", "one that works", "one behavior", "nothing works"],
)
def test_nothing_is_proposed_unless_two_working_groups_are_close(group):
    group, separator = candidates(*group), Places(0)
    scores = Behaviour(runner=WordObserver(), separate=separator).score(group)
    assert separator.asked == []
    assert "separation" not in scores.details


def test_how_close_the_groups_must_be_is_an_option():
    group = candidates("a", "a", "a", "a", "b")
    separator = Places(0)
    Behaviour(runner=WordObserver(), separate=separator, close=0.8).score(group)
    assert separator.asked


def test_options_that_cannot_work_are_refused():
    with pytest.raises(ConfigurationError, match=r"give nad_agents.input_proposals.ModelSeparator"):
        Behaviour(runner=WordObserver(), separate=object())
    with pytest.raises(ConfigurationError, match="a judge decides between programs on separating inputs"):
        Behaviour(runner=WordObserver(), judge=Likes("p"))
    with pytest.raises(ConfigurationError, match="close=-1"):
        Behaviour(runner=WordObserver(), close=-1)


SCHEMA = {"place": {"enum": [0, 1]}}


class Lengths(WordObserver):
    """Runs programs that give the answer's length, and on a proposed input a character of the answer."""

    def observe(self, answers, *, prompt="", propose=None):
        if propose is None:
            return super().observe([f"x{len(answer)}" for answer in answers])
        found = list(propose(prompt, SCHEMA))
        return super().observe([f"{answer}  " for answer in answers], propose=lambda *_: [i["place"] for i in found])


class TestModel:
    def test_it_proposes_inputs_in_the_parameters_types_and_counts_its_tokens(self):
        separator = ModelSeparator(decoder(), count=2, max_new_tokens=80)
        inputs, tokens = separator.separate("task", "pq", "rq", SCHEMA)
        assert 1 <= len(inputs) <= 2
        assert all(item in ({"place": 0}, {"place": 1}) for item in inputs)
        assert 0 < tokens <= 80
        assert separator.separate("task", "pq", "rq", SCHEMA) == (inputs, 0)
        assert separator.separate("task", "pq", "rq", {}) == ([], 0)

    def test_its_preference_does_not_depend_on_the_order_of_the_results(self):
        judge = ModelJudge(decoder())
        (one,) = judge.prefer("task", [("f(0)", "p", "r")])
        (other,) = judge.prefer("task", [("f(0)", "r", "p")])
        assert judge.questions == 4
        assert 0 < one < 1
        assert one + other == pytest.approx(1, abs=1e-4)

    def test_it_goes_with_the_decoder_that_wrote_the_answers(self):
        nad = decoder(loaded=loaded())
        options = {"runner": Lengths(), "separate": ModelSeparator(nad, count=1, max_new_tokens=40), "close": 1.0}
        config = NADConfig(selector="behaviour", selector_options=options, **NEURONS)
        selection = nad.decode("hello", sampling=SamplingConfig(n=4, max_new_tokens=8, seed=3), config=config)
        assert selection.details["separation"]["generated_tokens"] > 0
        assert selection.details["separation"]["decided_by"] in (None, "vote")

    def test_a_chat_model_of_langchain_reports_it(self):
        nad = tiny_decoder()
        options = {"runner": Lengths(), "separate": ModelSeparator(nad, count=1, max_new_tokens=40)}
        options |= {"judge": ModelJudge(nad), "close": 1.0}
        chat = tiny_chat(decoder=nad, selector="behaviour", selector_options=options, max_tokens=8)
        answer = chat.invoke("hello", include_candidates=True)
        separation = answer.response_metadata["nad"]["details"]["separation"]
        assert separation["generated_tokens"] > 0
        assert separation["questions"] == 2 * len(separation["inputs"])
