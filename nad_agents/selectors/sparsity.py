"""Selectors by sparsity: correct answers tend to activate fewer unique neurons (arXiv 2510.26277, section 3)."""

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
"""How the effect of length is removed from a count: not at all, by dividing by the tokens, or by regression on them."""


def length_residual(counts: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the residual of each count from a least-squares line on the numbers of tokens, float64 [N].

    With fewer than three candidates, or if all have the same length, no line is fitted and the deviation from the mean
    is returned, because a line through two points leaves no residual.

    Args:
        counts: Int64 [N].
        tokens: Int64 [N].
    """
    x, y = [int(t) for t in tokens], [int(c) for c in counts]
    n = len(x)
    if n == 0:
        return np.zeros(0)
    # exact integers, because the order of the candidates must not change the result
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
    """Prefers the fewest unique activated neurons; the score is minus their number.

    Longer candidates activate more neurons, so this selector prefers short answers. To compare over equally many
    tokens, set ``common_prefix`` in the comparison, or use a length-controlled variant.
    """

    name: ClassVar[str] = "min_act"
    needs_neurons: ClassVar[bool] = True
    control: ClassVar[LengthControl] = "none"

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate, in index order.

        Raises:
            ConfigurationError: No neurons were recorded.
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
    """Prefers the fewest unique activated neurons per token.

    Longer candidates repeat more neurons, so this selector prefers long answers.
    """

    name: ClassVar[str] = "min_act_per_token"
    control: ClassVar[LengthControl] = "per_token"


@dataclass(frozen=True)
class MinActResidual(MinAct):
    """Prefers the fewest unique activated neurons for the candidate's length.

    The score is minus the residual of the count on the number of tokens within the group.
    """

    name: ClassVar[str] = "min_act_residual"
    control: ClassVar[LengthControl] = "residual"
