"""When enough candidates have been sampled."""

import numpy as np
import pytest
from scipy.stats import beta

from nad_agents.exceptions import VerificationError
from nad_agents.selectors import Behaviour, Majority, Medoid
from nad_agents.stopping import KeptScores, KeptVerdicts, UntilDecided, UntilPassed, probability_decided
from nad_agents.types import VerificationConfig
from tests.unit.builders import WordObserver, make_group, make_rollout
from tests.unit.verifiers import Passes


def until_passed(verifier, prompt="", verification=None, *, selector=None, **options):
    selector = selector or KeptScores(Medoid())
    return UntilPassed(
        verifier, prompt, verification or VerificationConfig(), selector=selector, threshold=0.8, **options
    )


def of_texts(*texts):
    return make_group([make_rollout([[i]], tokens=[i], text=text) for i, text in enumerate(texts)])


def test_each_distinct_answer_is_judged_once_over_all_waves():
    verifier = Passes()
    rule = until_passed(verifier, "task", VerificationConfig(parallel=1))
    assert not rule.enough(of_texts("a", "a ", "b"))
    assert verifier.asked == [("a", "task"), ("b", "task")]
    assert not rule.enough(of_texts("a", "a ", "b", "b"))
    assert rule.enough(of_texts("a", "a ", "b", "b", "right"))
    assert [answer for answer, _ in verifier.asked] == ["a", "b", "right"]


def test_no_more_checks_than_allowed():
    verifier = Passes()
    rule = until_passed(verifier, "", VerificationConfig(max_checks=2))
    assert not rule.enough(of_texts("a"))
    assert not rule.enough(of_texts("a", "b", "right"))
    assert len(verifier.asked) == 2


def test_several_passes_must_agree():
    class Begins(Passes):
        def verify(self, answer, *, prompt=""):
            return super().verify(answer.split()[0], prompt=prompt)

    def rule(**options):
        return until_passed(Begins(), passes=2, **options)

    assert not rule().enough(of_texts("right", "b"))
    assert rule().enough(of_texts("right", "b", "right "))  # the texts agree
    assert not rule().enough(of_texts("right 1", "b", "right 2", "b"))
    assert not rule().enough(of_texts("right 1", "b", "a", "b", "c", "d"))
    # what the programs do agrees
    words = rule(selector=KeptScores(Behaviour(runner=WordObserver())))
    assert not words.enough(of_texts("right 1", "wrong 1", "right 2"))
    assert words.enough(of_texts("right 1", "wrong 1", "right 2", "right  1"))


def test_a_broken_verifier_is_an_error_and_no_verdict():
    class Broken(Passes):
        def verify(self, answer, *, prompt=""):
            raise OSError("no sandbox")

    with pytest.raises(VerificationError, match="no sandbox"):
        until_passed(Broken()).enough(of_texts("a"))


def test_a_pass_without_tests_is_no_reason_to_stop_unless_the_leader_is_decided():
    class Loads(Passes):
        def verify(self, answer, *, prompt=""):
            verdict = super().verify("right", prompt=prompt)
            verdict.tested = answer == "tested"
            return verdict

    assert until_passed(Passes("a")).enough(of_texts("a", "b"))
    rule = until_passed(Loads(), selector=KeptScores(Majority(str.strip)))
    assert not rule.enough(of_texts("a"))
    assert not rule.enough(of_texts("a", "b"))
    assert not rule.enough(of_texts("a", "b", "c", "c"))
    assert rule.enough(of_texts("a", "b", "c", "c", "c"))
    assert until_passed(Loads()).enough(of_texts("a", "b", "tested"))


def test_verdicts_are_kept_for_the_walk():
    verifier = Passes()
    kept = KeptVerdicts(verifier)
    assert kept.verify("right", prompt="x").passed
    assert kept.verify("right").passed
    assert not kept.verify("wrong").passed
    assert [answer for answer, _ in verifier.asked] == ["right", "wrong"]
    assert kept.fingerprint(" a ") == "a"


@pytest.mark.parametrize(
    ("column", "leader", "votes"),
    [([0, 0, 0], 0, (3, 0)), ([0, 0, 1], 0, (2, 1)), ([0, 1, 1], 0, (1, 2)), ([0, -1, -1, 2, 2], 3, (2, 1))],
)
def test_the_criterion_is_adaptive_consistencys(column, leader, votes):
    first, second = votes
    expected = 1 - beta.cdf(0.5, first + 1, second + 1)
    assert probability_decided(np.array(column)[:, None], leader) == pytest.approx(expected)


def test_several_questions_count_alike_and_a_leader_without_an_answer_is_none():
    votes = np.array([[0, 0, -1], [0, 1, 0]])
    expected = (1 - beta.cdf(0.5, 3, 1) + 0.5 + 0) / 3
    assert probability_decided(votes, 0) == pytest.approx(expected)
    assert probability_decided(np.zeros((3, 0), dtype=np.int64), 0) == 0


def test_programs_are_decided_by_what_they_do_answers_by_what_they_state_and_others_by_their_text():
    observer = WordObserver()
    rule = UntilDecided(Behaviour(runner=observer), 0.9)
    assert not rule.enough(of_texts("1 2"))
    assert not rule.enough(of_texts("1 2", "1 2"))
    assert rule.enough(of_texts("1 2", "1 2", "1 2"))
    assert not rule.enough(of_texts("1 2", "1 3", "1 4", "1 5"))
    stated = UntilDecided(Majority("stated"), 0.9)
    assert stated.enough(of_texts(*[f"{i}: the answer is 4" for i in range(3)]))
    assert not stated.enough(of_texts("no", "idea", "at all"))
    texts = UntilDecided(Medoid(), 0.9)
    assert texts.enough(of_texts("same", " same", "same\n"))
    assert not texts.enough(of_texts("a", "b", "c"))


def test_the_same_group_is_scored_once():
    observer = WordObserver()
    kept = KeptScores(Behaviour(runner=observer))
    group = of_texts("1 2", "1 2", "1 2")
    assert UntilDecided(kept, 0.9).enough(group)
    assert kept.score(group) is kept.score(group)
    kept.score(of_texts("1", "2"))
    assert len(observer.asked) == 2
    assert (kept.name, kept.needs_neurons, kept.min_candidates) == ("behaviour", False, 2)
