"""Selectors by agreement: prefer the candidate whose activated neurons are most like the others' (arXiv 2510.26277).

J is the similarity matrix of the candidates that have activated neurons. Candidates without any get NaN, and a single
candidate, which has no other to agree with, gets 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nad_agents.neurons.activated_sets import similarity_matrix, unique_counts
from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors.base import (
    Scores,
    SelectorBase,
    check_count,
    check_number,
    content_order,
)

__all__ = ["DBSCAN", "KNN", "AgreementSelector", "Medoid", "mean_similarity"]


def _similarities_to_others(similarity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each candidate's similarities to all others in descending order, float64 [N, N - 1]."""
    n = len(similarity)
    others = similarity[~np.eye(n, dtype=bool)].reshape(n, max(n - 1, 0))
    # sorted, because the order of the candidates must not change the last bit of a sum
    return -np.sort(-others, axis=1)


def mean_similarity(similarity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean similarity of each candidate to all others, float64 [N]; 0 for a single candidate."""
    others = _similarities_to_others(similarity)
    return others.mean(axis=1) if others.shape[1] else np.zeros(len(similarity))


@dataclass(frozen=True)
class AgreementSelector(SelectorBase):
    """Base class of selectors on the similarity matrix, which sets candidates without activated neurons aside.

    A subclass implements `score_similarities`, which scores the remaining candidates.
    """

    needs_neurons: ClassVar[bool] = True
    min_candidates: ClassVar[int] = 2

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate, in index order.

        Raises:
            ConfigurationError: No neurons were recorded.
        """
        similarity = similarity_matrix(group, self.comparison)
        sizes = unique_counts(group, self.comparison)
        # in content order, which makes algorithms that depend on the order of their input depend on content only
        present = [i for i in content_order(group) if sizes[i]]
        scored = self.score_similarities(similarity[np.ix_(present, present)], sizes[present])

        def spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
            full = np.full(len(group), np.nan)
            full[present] = values
            return full

        return Scores(
            values=spread(scored.values),
            tie_breaks=tuple(spread(t) for t in scored.tie_breaks),
            details=self.details(scored.details, present, len(group)),
        )

    def score_similarities(self, similarity: NDArray[np.float64], sizes: NDArray[np.int64]) -> Scores:
        """Score the M candidates that have activated neurons.

        Args:
            similarity: Float64 [M, M].
            sizes: Int64 [M], the number of unique activated neurons of each.
        """
        raise NotImplementedError

    def details(self, scored: dict[str, Any], present: list[int], n: int) -> dict[str, Any]:
        """Translate evidence about the scored candidates into the group's indices.

        Args:
            scored: Evidence as `score_similarities` gave it.
            present: Group indices of the candidates that were scored, in their order.
            n: Number of candidates in the group.
        """
        del present, n
        return scored


@dataclass(frozen=True)
class KNN(AgreementSelector):
    """Scores a candidate by its mean similarity to the k nearest others; ties by its mean similarity to all others.

    If there are fewer than k others, all of them count.

    Attributes:
        k: Number of neighbors.
    """

    name: ClassVar[str] = "knn"

    k: int = 3

    def __post_init__(self) -> None:
        """Check the option."""
        check_count(self.name, "k", self.k, 1)

    def score_similarities(self, similarity: NDArray[np.float64], sizes: NDArray[np.int64]) -> Scores:
        """Score the candidates that have activated neurons."""
        del sizes
        nearest = _similarities_to_others(similarity)[:, : self.k]
        values = nearest.mean(axis=1) if nearest.shape[1] else np.zeros(len(similarity))
        return Scores(values, (mean_similarity(similarity),))


@dataclass(frozen=True)
class Medoid(AgreementSelector):
    """Scores a candidate by its mean similarity to all others."""

    name: ClassVar[str] = "medoid"

    def score_similarities(self, similarity: NDArray[np.float64], sizes: NDArray[np.int64]) -> Scores:
        """Score the candidates that have activated neurons."""
        del sizes
        return Scores(mean_similarity(similarity))


@dataclass(frozen=True)
class DBSCAN(AgreementSelector):
    """Prefers the medoid of the largest cluster that DBSCAN finds on the distances 1 - J.

    The score is the size of the candidate's cluster, 0 for noise. Ties are broken by the mean similarity within the
    cluster, then by the candidate's mean similarity to its own cluster (to all candidates for noise), then to all
    candidates. If every candidate is noise, the pick is the medoid of all. ``details["clusters"]`` holds the label of
    each candidate: 0 for the largest cluster, -1 for noise, None for a candidate without activated neurons.
    ``details["eps"]`` holds the radius.

    Attributes:
        eps_percentile: Neighborhood radius, as a percentile of the distances between different candidates.
        min_samples: Number of candidates within the radius, itself included, that make a candidate a core point.
    """

    name: ClassVar[str] = "dbscan"

    eps_percentile: float = 30.0
    min_samples: int = 3

    def __post_init__(self) -> None:
        """Check the options."""
        check_number(self.name, "eps_percentile", self.eps_percentile, 0, 100)
        check_count(self.name, "min_samples", self.min_samples, 1)

    def score_similarities(self, similarity: NDArray[np.float64], sizes: NDArray[np.int64]) -> Scores:
        """Score the candidates that have activated neurons."""
        del sizes
        n = len(similarity)
        overall = mean_similarity(similarity)
        if n < 2:
            return Scores(np.zeros(n), details={"clusters": [-1] * n, "eps": None})
        # imported here because the import takes a second, which users of other selectors need not wait for
        from sklearn import cluster

        distance = 1.0 - similarity
        between = np.sort(distance[np.triu_indices(n, 1)])
        eps = float(np.percentile(between, self.eps_percentile))
        # scikit-learn refuses a radius of 0, which results from many identical candidates
        clustering = cluster.DBSCAN(
            eps=max(eps, np.finfo(np.float64).tiny), min_samples=self.min_samples, metric="precomputed"
        )
        labels = clustering.fit_predict(distance)

        size, cohesion, own = np.zeros(n), np.zeros(n), overall.copy()
        for label in set(labels.tolist()) - {-1}:
            members = np.flatnonzero(labels == label)
            within = mean_similarity(similarity[np.ix_(members, members)])
            size[members] = len(members)
            cohesion[members] = np.sort(within).mean()
            own[members] = within
        order = sorted(set(labels.tolist()) - {-1}, key=lambda c: _cluster_key(c, labels, size, cohesion))
        renamed = {-1: -1} | {label: number for number, label in enumerate(order)}
        details = {"clusters": [renamed[label] for label in labels.tolist()], "eps": eps}
        return Scores(size, (cohesion, own, overall), details)

    def details(self, scored: dict[str, Any], present: list[int], n: int) -> dict[str, Any]:
        """Put the cluster labels in index order."""
        labels = dict(zip(present, scored["clusters"], strict=True))
        return scored | {"clusters": [labels.get(i) for i in range(n)]}


def _cluster_key(
    label: int, labels: NDArray[np.int64], size: NDArray[np.float64], cohesion: NDArray[np.float64]
) -> tuple[float, float, int]:
    member = int(np.flatnonzero(labels == label)[0])
    return -float(size[member]), -float(cohesion[member]), label
