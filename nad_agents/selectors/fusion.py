"""Selectors that combine agreement, confidence and optionally sparsity by rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from nad_agents.exceptions import ConfigurationError
from nad_agents.neurons.activated_sets import subgroup
from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors.agreement import KNN, Medoid
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
    """Scores by the weighted mean of the ranks by agreement, by confidence (mean_logprob) and by sparsity (min_act).

    Each component gives a candidate the share of the others that it beats, and the score is the weighted mean of these
    shares, in [0, 1]. Ranks are averaged instead of values because the components have different units. Candidates
    that the token limit cut are compared with one another only and score one less, so that they rank after the whole
    ones. Candidates without activated neurons get NaN. Ties go to the greater similarity, then to
    the greater log-probability. If no neurons were recorded, confidence decides alone.

    Attributes:
        agreement: Weight of the mean similarity to the `k` nearest others.
        sparsity: Weight of min_act.
        confidence: Weight of mean_logprob.
        k: Number of neighbors whose similarity counts, as in knn; None counts all others, as in medoid.
        whole_first: Whether candidates that the token limit cut rank after the others.
    """

    name: ClassVar[str] = "nad_fusion"
    needs_neurons: ClassVar[bool] = True
    min_candidates: ClassVar[int] = 2

    agreement: float = 1.0
    sparsity: float = 0.0
    confidence: float = 1.0
    k: int | None = None
    whole_first: bool = True

    def __post_init__(self) -> None:
        """Check the options."""
        for option in ("agreement", "sparsity", "confidence"):
            check_number(self.name, option, getattr(self, option), 0)
        if self.k is not None:
            check_count(self.name, "k", self.k, 1)
        if self.agreement + self.sparsity + self.confidence == 0:
            msg = "nad_fusion: all weights are 0; give agreement, sparsity or confidence a positive one"
            raise ConfigurationError(msg)

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate, in index order."""
        # if only first tokens are compared, it is not known yet whether a candidate will be cut
        seen = self.comparison.token_limit or max(map(len, group.rollouts), default=0)
        cut = [i for i, r in enumerate(group.rollouts) if r.finish_reason == "length" and len(r) <= seen]
        if not self.whole_first or not 0 < len(cut) < len(group):
            values, shares, raw = self._shares(group)
            return Scores(values, raw, _rounded(shares))
        whole = [i for i in range(len(group)) if i not in cut]
        values = np.full(len(group), np.nan)
        merged: dict[str, NDArray[np.float64]] = {}
        tie_breaks: list[NDArray[np.float64]] = []
        for members, penalty in ((whole, 0.0), (cut, 1.0)):
            part, shares, raw = self._shares(self._part(group, members))
            values[members] = part - penalty
            for name, share in shares.items():
                merged.setdefault(name, np.zeros(len(group)))[members] = share
            for place, column in enumerate(raw):
                if place == len(tie_breaks):
                    tie_breaks.append(np.full(len(group), np.nan))
                tie_breaks[place][members] = column
        return Scores(values, tuple(tie_breaks), {**_rounded(merged), "cut": cut})

    def _part(self, group: RolloutGroup, members: list[int]) -> RolloutGroup:
        recorded = any(rollout.neurons.shape[1] for rollout in group.rollouts)
        if recorded and not self.comparison.common_prefix:
            return subgroup(group, members, self.comparison)
        return RolloutGroup([group.rollouts[i] for i in members], group.layout, group.prompt)

    def _shares(
        self, group: RolloutGroup
    ) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]], tuple[NDArray[np.float64], ...]]:
        """Return each candidate's score, its share of rank under each component, and the components' own values."""
        confidence = MeanLogprob(comparison=self.comparison).score(group).values
        parts, present = {"confidence": confidence}, ~np.isnan(confidence)
        if any(rollout.neurons.shape[1] for rollout in group.rollouts):
            near = Medoid(comparison=self.comparison) if self.k is None else KNN(self.k, comparison=self.comparison)
            parts = {"agreement": near.score(group).values, "confidence": confidence}
            present = ~np.isnan(parts["agreement"])
            if self.sparsity:
                parts["sparsity"] = MinAct(comparison=self.comparison).score(group).values
        shares = {name: np.zeros(len(group)) for name in parts}
        total, weights = np.zeros(int(present.sum())), 0.0
        for name, values in parts.items():
            shares[name][present] = rank_share(values[present])
            weight = getattr(self, name) if len(parts) > 1 else 1.0
            total += weight * shares[name][present]
            weights += weight
        scores = np.full(len(group), np.nan)
        scores[present] = total / weights
        return scores, shares, tuple(parts.values())


def _rounded(shares: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    return {name: [round(v, 6) for v in share.tolist()] for name, share in shares.items()}
