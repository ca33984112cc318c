"""The selector protocol, a function from a group of rollouts to one score per candidate, and the ranking by scores.

Every selector of this package follows these conventions:

- A candidate with nothing to score (no tokens, or none in the compared window) gets NaN, which ranks last, and has no
  influence on the scores of the others.
- Permuting the candidates permutes the scores. Ties between equal scores are broken by content and never by position,
  except in ``first``.
- A single candidate gets a score from every selector, so that a group that shrank to one candidate can be ranked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nad_agents.exceptions import ConfigurationError
from nad_agents.neurons.comparison import ComparisonConfig
from nad_agents.rollouts import Rollout, RolloutGroup

__all__ = [
    "Scores",
    "Selector",
    "SelectorBase",
    "check_count",
    "check_number",
    "content_order",
    "mean_logprob",
    "rank",
]


@dataclass(frozen=True)
class Scores:
    """One score for every candidate.

    Attributes:
        values: Float64 [N]; higher is better, and NaN ranks last.
        tie_breaks: Further keys in order of importance, float64 [N] each; higher is better.
        details: JSON-serializable evidence, such as clusters or votes.
        selector: Name of the selector that made the scores, if another selector chose it.
        votes: Int64 [N, questions], each candidate's answer to each question that the selector compares, such as an
            input of the programs; equal numbers stand for equal answers, and numbers below 0 for a missing answer.
            None if the selector compares no answers.
    """

    values: NDArray[np.float64]
    tie_breaks: tuple[NDArray[np.float64], ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    selector: str | None = None
    votes: NDArray[np.int64] | None = None


@runtime_checkable
class Selector(Protocol):
    """An object that scores the candidates of one prompt."""

    @property
    def name(self) -> str:
        """Name that the selector is registered under."""
        ...

    @property
    def needs_neurons(self) -> bool:
        """Whether the selector reads activated neurons."""
        ...

    @property
    def min_candidates(self) -> int:
        """Smallest number of candidates that the selector can compare."""
        ...

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate of the group, in index order."""
        ...


@dataclass(frozen=True)
class SelectorBase:
    """Base class of this package's selectors.

    Attributes:
        comparison: What is compared: similarity, tokens, layers. Selectors on token signals read the same tokens;
            selectors on whole answers (``majority``, ``shortest``, ``random``, ``first``) ignore it.
    """

    name: ClassVar[str]
    needs_neurons: ClassVar[bool] = False
    min_candidates: ClassVar[int] = 1

    comparison: ComparisonConfig = field(default_factory=ComparisonConfig, kw_only=True)


def check_count(selector: str, option: str, value: object, minimum: int) -> None:
    """Check that an option is a whole number of at least `minimum`.

    Args:
        selector: Name of the selector, for the error message.
        option: Name of the option.
        value: The option's value.
        minimum: The smallest value that is allowed.

    Raises:
        ConfigurationError: The value is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        msg = f"{selector}: {option}={value!r} must be a whole number of at least {minimum}"
        raise ConfigurationError(msg)


def check_number(selector: str, option: str, value: object, low: float, high: float = math.inf) -> None:
    """Check that an option is a finite number from `low` to `high`.

    Args:
        selector: Name of the selector, for the error message.
        option: Name of the option.
        value: The option's value.
        low: The smallest value that is allowed.
        high: The largest value that is allowed.

    Raises:
        ConfigurationError: The value is not.
    """
    number = math.nan
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        number = float(value)
    if not math.isfinite(number) or not low <= number <= high:
        bounds = f"of at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
        msg = f"{selector}: {option}={value!r} must be a number {bounds}"
        raise ConfigurationError(msg)


def mean_logprob(rollout: Rollout) -> float:
    """Return the mean log-probability per token in nats; NaN without tokens or if any log-probability is NaN."""
    return float(np.mean(rollout.logprobs, dtype=np.float64)) if len(rollout) else math.nan


def _descending(value: float) -> tuple[bool, float]:
    return (True, 0.0) if math.isnan(value) else (False, -value)


def _content_key(rollout: Rollout) -> tuple[Any, ...]:
    return (_descending(mean_logprob(rollout)), len(rollout), rollout.token_ids.tolist(), rollout.text, rollout.index)


def content_order(group: RolloutGroup) -> list[int]:
    """Return the candidates' indices ordered by content alone.

    Candidates with a higher mean log-probability come first, then those with fewer tokens, then those with smaller
    token ids, then those whose text sorts first. The index decides only between candidates that are equal in all of
    these.
    """
    return sorted(range(len(group)), key=lambda i: _content_key(group.rollouts[i]))


def _checked(values: NDArray[np.float64], n: int, what: str) -> list[float]:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (n,):
        msg = f"the selector gave {what} of shape {array.shape} for {n} candidates; it must give one per candidate"
        raise ConfigurationError(msg)
    return [float(v) for v in array]


def rank(scores: Scores, group: RolloutGroup) -> list[int]:
    """Rank the candidates by their scores.

    Higher values come first and NaN last; ties are broken by the tie-breaks in their order, with NaN last in each, and
    then by `content_order`.

    Args:
        scores: The selector's scores.
        group: The candidates.

    Returns:
        Candidate indices, best first.

    Raises:
        ConfigurationError: The number of scores or of a tie-break differs from the number of candidates.
    """
    n = len(group)
    columns: Sequence[list[float]] = [
        _checked(scores.values, n, "scores"),
        *(_checked(t, n, "tie-breaks") for t in scores.tie_breaks),
    ]
    content_rank = {candidate: position for position, candidate in enumerate(content_order(group))}
    return sorted(range(n), key=lambda i: (*(_descending(column[i]) for column in columns), content_rank[i]))
