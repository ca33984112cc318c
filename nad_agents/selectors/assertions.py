"""Select by assertions that a model wrote: candidates and assertions are evidence for one another.

No assertion is known to be right. Candidates that pass the same assertions support one another, and so do assertions
that the same candidates pass; `codet` (arXiv 2207.10397) and `b4` (arXiv 2409.08692) combine both kinds of support.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

from nad_agents.exceptions import ConfigurationError
from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors.base import Scores, SelectorBase, check_number, content_order
from nad_agents.selectors.fusion import NADFusion

__all__ = ["B4", "AssertionResults", "AssertionRunner", "CodeT", "b4_scores", "codet_scores", "prune"]

_TOP = 4
"""One program in so many is one of the best, whose failures count against an assertion."""


class AssertionResults(Protocol):
    """The assertions for a prompt, and which of them each program passes."""

    @property
    def assertions(self) -> Sequence[str]:
        """Source of the assertions; empty if none could be written."""
        ...

    @property
    def passed(self) -> Sequence[Sequence[bool]]:
        """For each answer, in order, whether its program passes each assertion."""
        ...


class AssertionRunner(Protocol):
    """An object that obtains assertions and runs programs on them, such as ``nad_sandbox.AssertionRunner``."""

    def check(self, answers: Sequence[str], *, prompt: str = "") -> AssertionResults:
        """Run the programs in the answers on the same assertions.

        Args:
            answers: The candidates' texts, including prose and code fences.
            prompt: The prompt that the candidates answer.
        """
        ...


def codet_scores(passed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Score programs by the square root of the number that pass the same assertions, times these assertions' number.

    Args:
        passed: Bool [programs, assertions].
    """
    _, group, size = np.unique(passed, axis=0, return_inverse=True, return_counts=True)
    return np.asarray(np.sqrt(size[group.ravel()]) * passed.sum(axis=1), dtype=np.float64)


def b4_scores(passed: NDArray[np.bool_], *, alpha: float = 1e3, beta: float = 1e5) -> NDArray[np.float64]:
    """Score programs by the probability that exactly the assertions they pass are right (arXiv 2409.08692).

    Args:
        passed: Bool [programs, assertions].
        alpha: Prior for the belief that wrong programs and assertions are frequent.
        beta: Prior for the belief that wrong programs rarely pass wrong assertions.
    """
    rows, group, size = np.unique(passed, axis=0, return_inverse=True, return_counts=True)
    n, m = passed.shape
    scores = np.empty(len(rows))
    for place, row in enumerate(rows):
        others = passed[group.ravel() != place]
        inside, outside = others[:, row], others[:, ~row]
        ones_inside, ones_outside = int(inside.sum()), int(outside.sum())
        scores[place] = (
            betaln(size[place] + alpha, n - size[place] + 1)
            + betaln(row.sum() + alpha, m - row.sum() + 1)
            + betaln(ones_inside + 1, inside.size - ones_inside + 1)
            + betaln(ones_outside + 1, outside.size - ones_outside + beta)
        )
    return np.asarray(scores[group.ravel()], dtype=np.float64)


def prune(passed: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Drop programs and assertions that speak against one another, until no more are dropped.

    A program is dropped if it passes none of the assertions that are left. An assertion is dropped if none of the best
    quarter of the programs, by `codet_scores`, passes it. If nothing would be left, nothing is dropped.

    Args:
        passed: Bool [programs, assertions].

    Returns:
        Which programs and which assertions are left, bool [programs] and bool [assertions].
    """
    programs: NDArray[np.bool_] = np.ones(passed.shape[0], dtype=bool)
    assertions: NDArray[np.bool_] = np.ones(passed.shape[1], dtype=bool)
    while True:
        left: NDArray[np.bool_] = np.asarray(passed[:, assertions].any(axis=1))
        if not left.any():
            return np.ones_like(programs), np.ones_like(assertions)
        scores = codet_scores(passed[np.ix_(left, assertions)])
        worst_of_best = np.sort(scores)[-math.ceil(len(scores) / _TOP)]
        best = np.flatnonzero(left)[scores >= worst_of_best]
        kept: NDArray[np.bool_] = np.logical_and(assertions, passed[best].any(axis=0))
        if (left == programs).all() and (kept == assertions).all():
            return programs, assertions
        programs, assertions = left, kept


def evidence_of(assertions: Sequence[str], passed: NDArray[np.bool_], present: Sequence[int], n: int) -> dict[str, Any]:
    """Return the assertions, and how many each candidate passes, as details of scores.

    Args:
        assertions: Source of the assertions.
        passed: Bool [programs, assertions].
        present: The candidate of each program.
        n: Number of candidates; those without a program pass None.
    """
    counts = dict(zip(present, passed.sum(axis=1).tolist(), strict=True))
    return {"assertions": list(assertions), "passed": [counts.get(i) for i in range(n)]}


@dataclass(frozen=True)
class CodeT(SelectorBase):
    """Scores a candidate by the square root of how many pass the same assertions, times the number of assertions.

    A candidate without tokens gets NaN. Ties are broken by agreement and log-probability (`NADFusion`), which decide
    alone where no assertion could be written. ``details`` holds the ``assertions``, and under ``passed`` for each
    candidate the number of assertions that it passes, None for a candidate without tokens.

    Attributes:
        runner: Obtains assertions and runs programs on them.
        pruned: Whether candidates and assertions prune one another first (see `prune`); dropped candidates rank last,
            and ``details["dropped"]`` has the assertions that were dropped.
    """

    name: ClassVar[str] = "codet"
    min_candidates: ClassVar[int] = 2
    needs_whole_answers: ClassVar[bool] = True

    runner: AssertionRunner | None = None
    pruned: bool = False

    def __post_init__(self) -> None:
        """Check that a runner is given.

        Raises:
            ConfigurationError: There is no runner.
        """
        if not hasattr(self.runner, "check"):
            msg = (
                f"{self.name} runs the candidates' programs on assertions and needs to be told where, and who writes "
                "them: give selector_options={'runner': nad_sandbox.AssertionRunner(sandbox, write)}"
            )
            raise ConfigurationError(msg)

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate, in index order.

        Raises:
            Exception: Anything that the runner raises if it cannot run programs.
        """
        assert self.runner is not None
        n = len(group)
        evidence = NADFusion(comparison=self.comparison).score(group)
        # in content order, so that the result does not depend on the candidates' positions
        present = [i for i in content_order(group) if len(group.rollouts[i])]
        results = self.runner.check([group.rollouts[i].text for i in present], prompt=group.prompt) if present else None
        if results is None or not results.assertions:
            details: dict[str, Any] = {"assertions": [], "passed": [None] * n, "note": NO_ASSERTIONS}
            return Scores(evidence.values, evidence.tie_breaks, details)
        passed = np.array(results.passed, dtype=bool)
        values = np.full(n, np.nan)
        programs, assertions = np.ones(passed.shape[0], dtype=bool), np.ones(passed.shape[1], dtype=bool)
        if self.pruned:
            programs, assertions = prune(passed)
        scored = np.full(len(present), np.nan)
        scored[programs] = self.score_passed(passed[np.ix_(programs, assertions)])
        values[present] = scored
        votes = np.full((n, passed.shape[1]), -1, dtype=np.int64)
        votes[present] = passed
        details = evidence_of(results.assertions, passed, present, n)
        if self.pruned:
            details["dropped"] = [results.assertions[int(i)] for i in np.flatnonzero(~assertions)]
        return Scores(values, (evidence.values, *evidence.tie_breaks), details, votes=votes)

    def score_passed(self, passed: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Score programs by which assertions they pass, bool [programs, assertions]."""
        return codet_scores(passed)


NO_ASSERTIONS = "no assertion could be written, so candidates are ranked by agreement and log-probability"


@dataclass(frozen=True)
class B4(CodeT):
    """Scores a candidate by the posterior of its passing all and only the right assertions (arXiv 2409.08692).

    Everything else is as for `CodeT`.

    Attributes:
        alpha: Prior on wrong candidates and assertions being many.
        beta: Prior on wrong candidates passing wrong assertions rarely.
    """

    name: ClassVar[str] = "b4"

    alpha: float = 1e3
    beta: float = 1e5

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        check_number(self.name, "alpha", self.alpha, 1e-9)
        check_number(self.name, "beta", self.beta, 1e-9)

    def score_passed(self, passed: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Score programs by which assertions they pass, bool [programs, assertions]."""
        return b4_scores(passed, alpha=self.alpha, beta=self.beta)
