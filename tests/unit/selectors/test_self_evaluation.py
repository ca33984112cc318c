"""The tournament, and one question per answer; the judge is a rule here and a model in the other tests."""

import math

import numpy as np
import pytest

from nad_agents.exceptions import ConfigurationError
from nad_agents.selectors import PTrue, SelfVerify, get_selector, rank
from nad_agents.self_evaluation import ModelJudge
from tests.unit.builders import LengthJudge, make_group, make_rollout
from tests.unit.decoders import decoder, loaded


def of_texts(*texts):
    return make_group([make_rollout([[i]], tokens=[i], text=text, logprobs=-1.0 - i) for i, text in enumerate(texts)])


@pytest.mark.parametrize("n", [2, 3, 5, 8])
@pytest.mark.parametrize("pivots", [1, 2, 3])
def test_the_best_answer_wins_with_few_comparisons(n, pivots):
    judge = LengthJudge()
    group = of_texts(*("x" * (i + 1) for i in range(n)))
    scores = SelfVerify(judge=judge, pivots=pivots).score(group)
    assert rank(scores, group)[0] == n - 1
    assert len(judge.pairs) == scores.details["comparisons"] <= n + pivots * (n - pivots) + pivots * (pivots - 1) / 2
    assert len({frozenset(pair) for pair in judge.pairs}) == len(judge.pairs)
    assert ((scores.values > 0) & (scores.values < 1)).all()


def test_the_score_is_the_mean_win_and_copies_share_it():
    judge = LengthJudge()
    scores = SelfVerify(judge=judge).score(of_texts("a", "bbb", "bbb"))
    win = 1 / (1 + math.exp(-0.2))
    assert scores.values == pytest.approx([1 - win, win, win])
    assert len(judge.pairs) == 1
    assert SelfVerify(judge=judge).score(of_texts("a")).values.tolist() == [0.5]


def test_p_true_asks_once_about_each_distinct_answer():
    judge = LengthJudge()
    group = make_group([*of_texts("aa", "a", "aa").rollouts, make_rollout([])], prompt="task")
    scores = PTrue(judge=judge).score(group)
    assert scores.values[:3].tolist() == [0.2, 0.1, 0.2]
    assert np.isnan(scores.values[3])
    assert judge.asked == [("task", ["aa", "a"])]


def test_without_a_judge_it_says_what_to_give():
    for name in ("self_verify", "p_true"):
        with pytest.raises(ConfigurationError, match=r"selector_options=\{'judge': nad_agents.self_evaluation.Model"):
            get_selector(name)
    with pytest.raises(ConfigurationError, match="pivots=0"):
        SelfVerify(judge=LengthJudge(), pivots=0)


class TestModel:
    def test_grades_are_expectations_over_the_models_own_letters(self):
        nad = decoder()
        judge = ModelJudge(nad)
        found = judge.compare("2 + 2?", [("4", "5"), ("4", "4")])
        assert judge.questions == 4
        assert all(-1 <= difference <= 1 for difference in found)
        assert judge.compare("2 + 2?", [("4", "5")])[0] == pytest.approx(found[0], abs=1e-4)

    def test_the_letters_are_those_of_a_forward_pass(self):
        import torch

        from nad_agents.prompt import encode_prompt
        from nad_agents.self_evaluation import _ALONE

        nad = decoder()
        (chance,) = ModelJudge(nad).p_true("2 + 2?", ["4"])
        ids = encode_prompt(nad.loaded.tokenizer, _ALONE.format(task="2 + 2?", answer="4"))
        with torch.inference_mode():
            logits = nad.loaded.model(torch.tensor([ids])).logits[0, -1]
        letters = [nad.loaded.tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in "AB"]
        assert chance == pytest.approx(logits[letters].softmax(-1)[0].item(), abs=1e-3)

    def test_long_answers_are_cut_in_the_middle(self):
        assert ModelJudge(decoder(), max_characters=10)._cut("a" * 20 + "b" * 20) == "aaaaa\n...\nbbbbb"

    def test_it_goes_with_the_decoder_that_wrote_the_answers(self):
        from nad_agents import NADConfig
        from tests.unit.decoders import NEURONS

        nad = decoder(loaded=loaded())
        config = NADConfig(selector="p_true", selector_options={"judge": ModelJudge(nad)}, **NEURONS)
        selection = nad.decode("hello", config=config)
        assert selection.selector == "p_true"
        assert all(0 <= c.score <= 1 for c in selection.candidates if c.tokens)
