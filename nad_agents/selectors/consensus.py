"""Selectors that combine comparisons: the pick with the fewest neurons among three selectors', and pairwise duels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nad_agents.neurons.activated_sets import unique_counts
from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors.agreement import DBSCAN, KNN, AgreementSelector, Medoid, mean_similarity
from nad_agents.selectors.base import Scores, SelectorBase, check_count, check_number, rank

__all__ = ["ConsensusMin", "Copeland"]


@dataclass(frozen=True)
class ConsensusMin(SelectorBase):
    """Prefers, among the picks of knn, medoid and dbscan, the one with the fewest activated neurons.

    The score is 1 for a pick and 0 for the other candidates. Picks are ranked by fewer neurons; the others follow by
    their mean position in the three rankings, then by fewer neurons. ``details["picks"]`` names the three picks.

    Attributes:
        k: Number of neighbors of knn.
        eps_percentile: Radius of dbscan, see `DBSCAN`.
        min_samples: Core size of dbscan, see `DBSCAN`.
    """

    name: ClassVar[str] = "consensus_min"
    needs_neurons: ClassVar[bool] = True
    min_candidates: ClassVar[int] = 2

    k: int = 3
    eps_percentile: float = 30.0
    min_samples: int = 3

    def __post_init__(self) -> None:
        """Check the options."""
        check_count(self.name, "k", self.k, 1)
        check_number(self.name, "eps_percentile", self.eps_percentile, 0, 100)
        check_count(self.name, "min_samples", self.min_samples, 1)

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate, in index order.

        Raises:
            ConfigurationError: No neurons were recorded.
        """
        selectors: tuple[AgreementSelector, ...] = (
            KNN(self.k, comparison=self.comparison),
            Medoid(comparison=self.comparison),
            DBSCAN(self.eps_percentile, self.min_samples, comparison=self.comparison),
        )
        sizes = unique_counts(group, self.comparison).astype(np.float64)
        values = np.where(sizes > 0, 0.0, np.nan)
        positions = np.zeros(len(group))
        picks: dict[str, Any] = {}
        for selector in selectors:
            ranking = rank(selector.score(group), group)
            positions[ranking] += np.arange(len(group))
            if ranking and sizes[ranking[0]]:
                picks[selector.name] = ranking[0]
                values[ranking[0]] = 1.0
        # the mean position only ranks candidates that no selector picks
        positions[values == 1.0] = 0.0
        return Scores(values, (-positions / len(selectors), -sizes), {"picks": picks})


@dataclass(frozen=True)
class Copeland(AgreementSelector):
    """Scores a candidate by the number of pairwise duels that it wins.

    In a duel, every candidate outside the pair votes for the one of the two that it is more similar to; with equal
    votes neither wins. Ties are broken by fewer duels lost, then by the mean similarity to all others. With two
    candidates no other candidate can vote, so both get 0.
    """

    name: ClassVar[str] = "copeland"

    def score_similarities(self, similarity: NDArray[np.float64], sizes: NDArray[np.int64]) -> Scores:
        """Score the candidates that have activated neurons."""
        del sizes
        n = len(similarity)
        wins, losses = np.zeros(n), np.zeros(n)
        for i in range(n):
            # each of the two is most similar to itself, so their own votes cancel out
            nearer = (similarity[:, i : i + 1] > similarity).sum(axis=0)
            farther = (similarity[:, i : i + 1] < similarity).sum(axis=0)
            ballot = nearer - farther
            wins[i] = (ballot > 0).sum()
            losses[i] = (ballot < 0).sum()
        return Scores(wins, (-losses, mean_similarity(similarity)))
