"""The walk down a ranking: order, budget, duplicates, parallel checks, failing verifiers."""

import threading
from dataclasses import dataclass

import pytest

from nad_agents.exceptions import GenerationCancelledError, NoCandidatePassedError, VerificationError
from nad_agents.verification import Verdict, Verifier, walk_ranking


@dataclass
class Said:
    passed: bool
    feedback: str = "wrong\nsecond line"

    def to_dict(self):
        return {"passed": self.passed}


class Judge:
    def __init__(self, *good, error=None, key=None):
        self.good, self.error, self.key, self.asked = good, error, key, []

    def verify(self, answer, *, prompt=""):
        self.asked.append(answer)
        if self.error is not None:
            raise self.error
        return Said(answer in self.good)

    def fingerprint(self, answer):
        return answer if self.key is None else self.key(answer)


ANSWERS = ["a0", "a1", "a2", "a3", "a4"]
RANKING = [3, 1, 4, 0, 2]


def test_the_protocols_are_met():
    assert isinstance(Judge(), Verifier)
    assert isinstance(Said(passed=True), Verdict)


@pytest.mark.parametrize("parallel", [1, 2, 5])
def test_the_best_ranked_that_passes_wins(parallel):
    judge, heard = Judge("a4", "a0", "a2"), []
    result = walk_ranking(
        RANKING, ANSWERS, judge, parallel=parallel, on_verdict=lambda i, verdict: heard.append((i, verdict.passed))
    )
    assert (result.winner, result.passed) == (4, True)
    assert heard == [(3, False), (1, False), (4, True)]
    assert list(result.verdicts) == [3, 1, 4]
    assert result.checked[:3] == (3, 1, 4)
    if parallel == 1:
        assert judge.asked == ["a3", "a1", "a4"]


@pytest.mark.parametrize("parallel", [1, 2, 5])
def test_all_are_checked_if_asked_and_the_best_ranked_that_passes_wins(parallel):
    judge = Judge("a4", "a0", "a2")
    result = walk_ranking(RANKING, ANSWERS, judge, parallel=parallel, check_all=True)
    assert (result.winner, result.passed) == (4, True)
    assert [i for i, verdict in result.verdicts.items() if verdict.passed] == [4, 0, 2]
    assert len(judge.asked) == 5


def test_a_later_pass_that_ends_first_does_not_win():
    later_done = threading.Event()

    class Slow(Judge):
        def verify(self, answer, *, prompt=""):
            if answer == "a3":
                assert later_done.wait(20)
            verdict = super().verify(answer, prompt=prompt)
            if answer == "a1":
                later_done.set()
            return verdict

    assert walk_ranking(RANKING, ANSWERS, Slow("a3", "a1"), parallel=2).winner == 3


def test_checks_do_run_at_the_same_time():
    both = threading.Barrier(2, timeout=20)

    class Meeting(Judge):
        def verify(self, answer, *, prompt=""):
            both.wait()
            return super().verify(answer, prompt=prompt)

    assert not walk_ranking([0, 1], ANSWERS, Meeting(), parallel=2).passed


def test_identical_answers_are_checked_once_and_share_the_verdict():
    judge = Judge(key=lambda answer: "same" if answer in ("a3", "a4") else answer)
    result = walk_ranking(RANKING, ANSWERS, judge)
    assert judge.asked == ["a3", "a1", "a0", "a2"]
    assert result.duplicates == {4: 3}
    assert result.verdicts[4] is result.verdicts[3]


def test_the_budget_of_checks_counts_what_the_verifier_was_asked():
    judge = Judge("a4", key=lambda answer: "same" if answer in ("a3", "a1") else answer)
    assert walk_ranking(RANKING, ANSWERS, judge, max_checks=2).winner == 4
    assert not walk_ranking(RANKING, ANSWERS, judge, max_checks=1).passed


def test_a_winner_does_not_wait_for_worse_ranked_checks():
    enough, started = threading.Event(), threading.Event()

    class Stuck(Judge):
        def verify(self, answer, *, prompt=""):
            if answer == "a1":
                started.set()
                assert enough.wait(20)
            else:
                assert started.wait(20)
            return super().verify(answer, prompt=prompt)

    judge = Stuck("a3")
    assert walk_ranking(RANKING, ANSWERS, judge, parallel=2).winner == 3
    assert judge.asked == ["a3"]
    enough.set()


def test_no_seconds_at_all_start_no_check():
    judge = Judge("a3")
    result = walk_ranking(RANKING, ANSWERS, judge, max_seconds=0)
    assert (judge.asked, result.checked, result.passed) == ([], (), False)


def test_the_budget_of_seconds_starts_no_further_check(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("nad_agents.verification.time.perf_counter", lambda: next(clock))
    judge = Judge("a2")
    result = walk_ranking(RANKING, ANSWERS, judge, max_seconds=2.5)
    assert not result.passed
    assert 1 <= len(judge.asked) < 5


def test_when_it_is_cancelled_no_further_check_starts():
    judge = Judge()
    with pytest.raises(GenerationCancelledError):
        walk_ranking(RANKING, ANSWERS, judge, cancelled=lambda: len(judge.asked) == 2)
    assert judge.asked == ["a3", "a1"]


def test_when_none_passes_the_best_ranked_is_given_with_its_verdict():
    result = walk_ranking(RANKING, ANSWERS, Judge())
    assert (result.winner, result.passed) == (3, False)
    assert set(result.verdicts) == set(RANKING)


def test_when_none_passes_an_error_may_be_asked_for():
    with pytest.raises(NoCandidatePassedError, match=r"none of 5 candidates passed \(5 checked\).*wrong$"):
        walk_ranking(RANKING, ANSWERS, Judge(), on_failure="error")


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_failing_verifier_is_not_a_failing_candidate(parallel):
    with pytest.raises(VerificationError, match="ConnectionError: engine gone") as caught:
        walk_ranking(RANKING, ANSWERS, Judge(error=ConnectionError("engine gone\nlong")), parallel=parallel)
    assert isinstance(caught.value.__cause__, ConnectionError)
