"""Decide when enough candidates are sampled: one passes the verifier, or more samples would not change the choice.

Both rules are applied between the waves in which `nad_agents.waves` generates the candidates. They cache their results,
so the selection that follows computes nothing twice.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors import Scores, Selector, rank
from nad_agents.types import VerificationConfig
from nad_agents.verification import Verdict, Verifier, call_verifier, is_tested_pass

__all__ = ["KeptScores", "KeptVerdicts", "StoppingRule", "UntilDecided", "UntilPassed", "probability_decided"]


class StoppingRule(Protocol):
    """A rule that decides after each wave whether there are enough candidates."""

    def enough(self, group: RolloutGroup) -> bool:
        """Return whether no further candidate is needed.

        Args:
            group: All candidates so far, which must have ended.
        """
        ...


class KeptVerdicts:
    """A verifier that calls another verifier once per distinct answer; safe to use from several threads.

    Args:
        verifier: The other verifier.
    """

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._known: dict[str, Verdict] = {}
        self._lock = threading.Lock()

    def verify(self, answer: str, *, prompt: str = "") -> Verdict:
        """Return the other verifier's verdict on an answer, from the cache if it is known."""
        with self._lock:
            known = self._known.get(answer)
        if known is None:
            known = self._verifier.verify(answer, prompt=prompt)
            with self._lock:
                self._known[answer] = known
        return known

    def fingerprint(self, answer: str) -> str:
        """Return the other verifier's fingerprint."""
        return self._verifier.fingerprint(answer)


class UntilPassed:
    """Stops sampling as soon as enough candidates pass the verifier and agree.

    Where the verifier has nothing to test the candidates by, such as code without examples or tests, any that can be
    run passes. Sampling then stops when the leading candidate is decided; see `UntilDecided`.

    Args:
        verifier: Judges the answers.
        prompt: The user's text, which the verifier receives.
        verification: Number of candidates to check, and number to check at a time.
        passes: Number of candidates that must pass and agree, as the selector's votes or else the texts show.
        selector: Selector whose votes tell which candidates agree, and which leads.
        threshold: Probability at which a candidate that passed no test counts as decided.
    """

    def __init__(
        self,
        verifier: Verifier,
        prompt: str,
        verification: VerificationConfig,
        *,
        passes: int = 1,
        selector: Selector,
        threshold: float,
    ) -> None:
        self._verifier = verifier
        self._prompt = prompt
        self._parallel = verification.parallel
        self._checks_left = verification.max_checks
        self._passes = passes
        self._selector = selector
        self._decided = UntilDecided(selector, threshold)
        self._passed: dict[str, bool] = {}  # by fingerprint, whether a test was passed
        self._untested = False

    def enough(self, group: RolloutGroup) -> bool:
        """Return whether enough candidates pass; each distinct answer is checked once over all calls.

        Raises:
            VerificationError: The verifier failed, which says nothing about the candidates.
        """
        keys = [call_verifier(self._verifier.fingerprint, rollout.text) for rollout in group.rollouts]
        fresh: dict[str, str] = {}
        for key, rollout in zip(keys, group.rollouts, strict=True):
            if key not in self._passed:
                fresh.setdefault(key, rollout.text)
        answers = list(fresh.values())[: self._checks_left]
        if self._checks_left is not None:
            self._checks_left -= len(answers)
        self._passed.update(dict.fromkeys(fresh, False))
        with ThreadPoolExecutor(self._parallel, thread_name_prefix="nad-verify") as pool:
            verdicts = pool.map(lambda text: call_verifier(self._verifier.verify, text, prompt=self._prompt), answers)
            # all checks end before the next wave
            for key, verdict in zip(fresh, verdicts, strict=False):
                self._passed[key] = is_tested_pass(verdict)
                self._untested |= verdict.passed and not self._passed[key]
        passing = [i for i, key in enumerate(keys) if self._passed[key]]
        if self._untested and not passing:
            return self._decided.enough(group)
        return len(passing) >= self._passes and (self._passes == 1 or self._agree(group, passing))

    def _agree(self, group: RolloutGroup, passing: list[int]) -> bool:
        """Return whether enough of the candidates that pass give the same answers."""
        votes = None
        if len(group) >= self._selector.min_candidates:
            votes = self._selector.score(group).votes
        if votes is None:
            votes = _votes_by_text(group)
        return int(np.unique(votes[passing], axis=0, return_counts=True)[1].max()) >= self._passes


class KeptScores:
    """A selector that caches the scores of a group.

    Args:
        selector: The selector that scores.
    """

    def __init__(self, selector: Selector) -> None:
        self._selector = selector
        self._scored: tuple[RolloutGroup, Scores] | None = None

    @property
    def name(self) -> str:
        """The selector's name."""
        return self._selector.name

    @property
    def needs_neurons(self) -> bool:
        """Whether the selector reads activated neurons."""
        return self._selector.needs_neurons

    @property
    def min_candidates(self) -> int:
        """Smallest number of candidates that the selector can compare."""
        return self._selector.min_candidates

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate, in index order."""
        if self._scored is None or self._scored[0] is not group:
            self._scored = (group, self._selector.score(group))
        return self._scored[1]


class UntilDecided:
    """Stops sampling when it is almost certain that the leading candidate's answer would keep the majority.

    The criterion is that of adaptive consistency (arXiv 2305.11860): with v1 votes for the leader and v2 for the next
    best, the probability that the leader has the majority of the two is P(Beta(v1 + 1, v2 + 1) > 1/2). If programs run
    on several inputs, the probability is the mean over the inputs.

    Args:
        selector: Selector that ranks the candidates and returns their votes (`Scores.votes`). Without votes, the
            candidates' texts are compared, ignoring white space.
        threshold: Probability at which the leader counts as decided.
    """

    def __init__(self, selector: Selector, threshold: float) -> None:
        self._selector = selector
        self._threshold = threshold

    def enough(self, group: RolloutGroup) -> bool:
        """Return whether the leader is decided; always false for fewer than two candidates."""
        if len(group) < max(2, self._selector.min_candidates):
            return False
        scores = self._selector.score(group)
        votes = scores.votes if scores.votes is not None else _votes_by_text(group)
        return probability_decided(votes, rank(scores, group)[0]) >= self._threshold


def probability_decided(votes: NDArray[np.int64], leader: int) -> float:
    """Return the probability that more candidates would not change the majority for the leader's answers.

    Args:
        votes: Int64 [N, questions], each candidate's answer to each question; equal numbers stand for equal answers,
            and numbers below 0 for a missing answer.
        leader: Index of the candidate that is ranked first.

    Returns:
        The mean probability over the questions; 0 if there are no questions.
    """
    found = []
    for column in votes.T:
        answers, counts = np.unique(column[column >= 0], return_counts=True)
        own = counts[answers == column[leader]]
        others = counts[answers != column[leader]]
        first, second = (int(own[0]) if len(own) else 0), int(others.max(initial=0))
        found.append(float(beta.sf(0.5, first + 1, second + 1)) if first else 0.0)
    return float(np.mean(found)) if found else 0.0


def _votes_by_text(group: RolloutGroup) -> NDArray[np.int64]:
    known: dict[str, int] = {}
    texts: list[Any] = [" ".join(rollout.text.split()) for rollout in group.rollouts]
    return np.array([[known.setdefault(text, len(known)) if text else -1] for text in texts], dtype=np.int64)
