"""What a selector is: a function from a group of rollouts to one score per candidate, and the ranking made of it.

Conventions that every selector of this package keeps:

- A candidate with nothing to judge (no tokens, or none in the compared window) scores NaN and so ranks last,
  and takes no part in how the others are scored.
- Permuting the candidates permutes the scores; among equal scores the content decides, never the position
  (the only exception is ``first``).
- With a single candidate every selector gives a score, so that a group which shrank to one can be ranked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nad_agents.exceptions import ConfigurationError
from nad_agents.neurons.activated_sets import ComparisonConfig
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
        values: float64 [N], higher is better; NaN ranks last.
        tie_breaks: further keys in order of importance, float64 [N] each, higher is better.
        details: JSON-serialisable evidence (clusters, groups).
    """

    values: NDArray[np.float64]
    tie_breaks: tuple[NDArray[np.float64], ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class Selector(Protocol):
    """Scores the candidates of one prompt."""

    @property
    def name(self) -> str:
        """Its registered name."""
        ...

    @property
    def needs_neurons(self) -> bool:
        """Whether it reads activated neurons."""
        ...

    @property
    def min_candidates(self) -> int:
        """The fewest candidates that it can compare."""
        ...

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate of the group, in index order."""
        ...


@dataclass(frozen=True)
class SelectorBase:
    """What the selectors of this package share.

    Attributes:
        comparison: what is compared: similarity, tokens, layers. Selectors on token signals look at the same
            tokens; selectors on whole answers (``majority``, ``shortest``, ``random``, ``first``) ignore it.
    """

    name: ClassVar[str]
    needs_neurons: ClassVar[bool] = False
    min_candidates: ClassVar[int] = 1

    comparison: ComparisonConfig = field(default_factory=ComparisonConfig, kw_only=True)


def check_count(selector: str, option: str, value: object, minimum: int) -> None:
    """Check that an option is a whole number of at least `minimum`.

    Raises:
        ConfigurationError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        msg = f"{selector}: {option}={value!r} must be a whole number of at least {minimum}"
        raise ConfigurationError(msg)


def check_number(selector: str, option: str, value: object, low: float, high: float = math.inf) -> None:
    """Check that an option is a finite number from `low` to `high`.

    Raises:
        ConfigurationError: it is not.
    """
    number = math.nan
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        number = float(value)
    if not math.isfinite(number) or not low <= number <= high:
        bounds = f"of at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
        msg = f"{selector}: {option}={value!r} must be a number {bounds}"
        raise ConfigurationError(msg)


def mean_logprob(rollout: Rollout) -> float:
    """Mean log-probability per token in nats; NaN without tokens or when a log-probability is NaN."""
    return float(np.mean(rollout.logprobs, dtype=np.float64)) if len(rollout) else math.nan


def _descending(value: float) -> tuple[bool, float]:
    return (True, 0.0) if math.isnan(value) else (False, -value)


def _content_key(rollout: Rollout) -> tuple[Any, ...]:
    return (_descending(mean_logprob(rollout)), len(rollout), rollout.token_ids.tolist(), rollout.index)


def content_order(group: RolloutGroup) -> list[int]:
    """The candidates ordered by what they are, whatever their position.

    Higher mean log-probability first, then fewer tokens, then smaller token ids; the index decides only between
    candidates that are alike in all of these.
    """
    return sorted(range(len(group)), key=lambda i: _content_key(group.rollouts[i]))


def _checked(values: NDArray[np.float64], n: int, what: str) -> list[float]:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (n,):
        msg = f"the selector gave {what} of shape {array.shape} for {n} candidates; it must give one per candidate"
        raise ConfigurationError(msg)
    return [float(v) for v in array]


def rank(scores: Scores, group: RolloutGroup) -> list[int]:
    """Candidate indices, best first.

    Higher values come first and NaN last; then the tie-breaks in their order, NaN last in each; then
    `content_order`.

    Raises:
        ConfigurationError: a score or tie-break is missing, or there are too many.
    """
    n = len(group)
    columns: Sequence[list[float]] = [
        _checked(scores.values, n, "scores"),
        *(_checked(t, n, "tie-breaks") for t in scores.tie_breaks),
    ]
    place = {candidate: position for position, candidate in enumerate(content_order(group))}
    return sorted(range(n), key=lambda i: (*(_descending(column[i]) for column in columns), place[i]))
