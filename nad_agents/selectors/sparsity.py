"""Selectors on sparsity: correct answers tend to activate fewer unique neurons (arXiv 2510.26277, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from nad_agents.neurons.activated_sets import compared_tokens, unique_counts
from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors.base import Scores, SelectorBase

__all__ = ["LengthControl", "MinAct", "MinActPerToken", "MinActResidual", "length_residual"]

LengthControl = Literal["none", "per_token", "residual"]
"""How length is taken out of a count: not at all, divided by the tokens, or regressed on them."""


def length_residual(counts: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """What is left of each count after a least-squares line on the tokens, float64 [N].

    With fewer than three candidates, or all of one length, no line is fitted and the deviation from the mean is
    returned: through two points a line leaves nothing.
    """
    x, y = [int(t) for t in tokens], [int(c) for c in counts]
    n = len(x)
    if n == 0:
        return np.zeros(0)
    # whole numbers of any size, so that the order of the candidates cannot change a bit
    sum_x, sum_y = sum(x), sum(y)
    spread = n * sum(v * v for v in x) - sum_x * sum_x
    if n < 3 or spread == 0:
        return np.array([(n * v - sum_y) / n for v in y])
    covariance = n * sum(a * b for a, b in zip(x, y, strict=True)) - sum_x * sum_y
    return np.array(
        [(spread * (n * b - sum_y) - covariance * (n * a - sum_x)) / (n * spread) for a, b in zip(x, y, strict=True)]
    )


@dataclass(frozen=True)
class MinAct(SelectorBase):
    """Fewest unique activated neurons; the score is minus the count.

    A longer candidate activates more neurons, so this prefers short answers; to compare over equally many tokens,
    set ``common_prefix`` in the comparison, or use a length-controlled variant.
    """

    name: ClassVar[str] = "min_act"
    needs_neurons: ClassVar[bool] = True
    control: ClassVar[LengthControl] = "none"

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate, in index order.

        Raises:
            ConfigurationError: nothing was recorded.
        """
        counts = unique_counts(group, self.comparison)
        tokens = compared_tokens(group, self.comparison)
        present = counts > 0
        values = np.full(len(group), np.nan)
        if self.control == "residual":
            values[present] = -length_residual(counts[present], tokens[present])
        elif self.control == "per_token":
            values[present] = -counts[present] / tokens[present]
        else:
            values[present] = -counts[present]
        return Scores(values, details={"activated_neurons": counts.tolist()})


@dataclass(frozen=True)
class MinActPerToken(MinAct):
    """Fewest unique activated neurons per token; prefers long answers, in which new neurons become rarer."""

    name: ClassVar[str] = "min_act_per_token"
    control: ClassVar[LengthControl] = "per_token"


@dataclass(frozen=True)
class MinActResidual(MinAct):
    """Fewest unique activated neurons for its length: minus the residual on the tokens within the group."""

    name: ClassVar[str] = "min_act_residual"
    control: ClassVar[LengthControl] = "residual"
