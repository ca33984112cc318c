"""What a selector is: a function from a group of rollouts to one score per candidate, and the ranking made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nad_agents.rollouts import RolloutGroup

__all__ = ["Scores", "Selector"]


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
    """Scores the candidates of one prompt.

    Attributes:
        name: its registered name.
        needs_neurons: whether it reads activated neurons.
        min_candidates: the fewest candidates that it can compare.
    """

    name: str
    needs_neurons: bool
    min_candidates: int

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate of the group, in index order."""
        ...
