"""A selector that fuses the three kinds of evidence: agreement, sparsity and confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from nad_agents.exceptions import ConfigurationError
from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors.agreement import KNN
from nad_agents.selectors.base import Scores, SelectorBase, check_count, check_number
from nad_agents.selectors.confidence import MeanLogprob
from nad_agents.selectors.sparsity import MinAct

__all__ = ["NADFusion", "rank_share"]


def rank_share(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of the other candidates that each one beats, in [0, 1]; ties count half, NaN ranks lowest."""
    n = len(values)
    if n < 2:
        return np.ones(n)
    lowest_first = np.where(np.isnan(values), -np.inf, values)
    return (np.asarray(rankdata(lowest_first), dtype=np.float64) - 1) / (n - 1)


@dataclass(frozen=True)
class NADFusion(SelectorBase):
    """Scores by the weighted mean of the ranks by agreement (knn), sparsity (min_act) and confidence (mean_logprob).

    Each component gives a candidate the share of the others that it beats, and the score is the weighted mean of these
    shares, in [0, 1]. Ranks are averaged instead of values because the components have different units. Candidates
    without activated neurons get NaN.

    Attributes:
        agreement: Weight of knn under the comparison's similarity.
        sparsity: Weight of min_act.
        confidence: Weight of mean_logprob.
        k: Number of neighbors of knn.
    """

    name: ClassVar[str] = "nad_fusion"
    needs_neurons: ClassVar[bool] = True
    min_candidates: ClassVar[int] = 2

    agreement: float = 1.0
    sparsity: float = 0.5
    confidence: float = 1.0
    k: int = 3

    def __post_init__(self) -> None:
        """Check the options."""
        for option in ("agreement", "sparsity", "confidence"):
            check_number(self.name, option, getattr(self, option), 0)
        check_count(self.name, "k", self.k, 1)
        if self.agreement + self.sparsity + self.confidence == 0:
            msg = "nad_fusion: all weights are 0; give agreement, sparsity or confidence a positive one"
            raise ConfigurationError(msg)

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate, in index order.

        Raises:
            ConfigurationError: No neurons were recorded.
        """
        parts = {
            "agreement": KNN(self.k, comparison=self.comparison).score(group).values,
            "sparsity": MinAct(comparison=self.comparison).score(group).values,
            "confidence": MeanLogprob(comparison=self.comparison).score(group).values,
        }
        present = ~np.isnan(parts["sparsity"])
        total = np.zeros(int(present.sum()))
        details = {}
        for name, values in parts.items():
            share = rank_share(values[present])
            total += getattr(self, name) * share
            full = np.zeros(len(group))
            full[present] = share
            details[name] = [round(v, 6) for v in full.tolist()]
        values = np.full(len(group), np.nan)
        values[present] = total / (self.agreement + self.sparsity + self.confidence)
        return Scores(values, details=details)
