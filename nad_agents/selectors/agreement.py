"""Selectors on agreement: the candidate whose activated neurons are most like the others' (arXiv 2510.26277).

J is the similarity matrix of the candidates that have activated neurons; empty candidates score NaN. A lone
candidate agrees with nobody and scores 0.
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
    """For each candidate its similarities to all others in descending order, [N, N - 1]."""
    n = len(similarity)
    others = similarity[~np.eye(n, dtype=bool)].reshape(n, max(n - 1, 0))
    # sorted, so that the order of the candidates cannot change the last bit of a sum
    return -np.sort(-others, axis=1)


def mean_similarity(similarity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean similarity of each candidate to all others, float64 [N]; 0 for a lone candidate."""
    others = _similarities_to_others(similarity)
    return others.mean(axis=1) if others.shape[1] else np.zeros(len(similarity))


@dataclass(frozen=True)
class AgreementSelector(SelectorBase):
    """Base of the selectors that read the similarity matrix: sets empty candidates aside.

    A subclass says how to judge the rest in `judge`.
    """

    needs_neurons: ClassVar[bool] = True
    min_candidates: ClassVar[int] = 2

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate, in index order.

        Raises:
            ConfigurationError: nothing was recorded.
        """
        similarity = similarity_matrix(group, self.comparison)
        sizes = unique_counts(group, self.comparison)
        # in content order, so that an algorithm that depends on the order of its input depends on content only
        present = [i for i in content_order(group) if sizes[i]]
        judged = self.judge(similarity[np.ix_(present, present)], sizes[present])

        def spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
            full = np.full(len(group), np.nan)
            full[present] = values
            return full

        return Scores(
            values=spread(judged.values),
            tie_breaks=tuple(spread(t) for t in judged.tie_breaks),
            details=self.details(judged.details, present, len(group)),
        )

    def judge(self, similarity: NDArray[np.float64], sizes: NDArray[np.int64]) -> Scores:
        """Score the M non-empty candidates.

        Args:
            similarity: float64 [M, M].
            sizes: int64 [M], their unique activated neuron counts.
        """
        raise NotImplementedError

    def details(self, judged: dict[str, Any], present: list[int], n: int) -> dict[str, Any]:
        """Evidence in terms of the group's indices; `present` names the candidates that were judged."""
        del present, n
        return judged


@dataclass(frozen=True)
class KNN(AgreementSelector):
    """Mean similarity to the k nearest other candidates; ties by the mean similarity to all others.

    With fewer than k others, all of them count.

    Attributes:
        k: number of neighbours.
    """

    name: ClassVar[str] = "knn"

    k: int = 3

    def __post_init__(self) -> None:
        """Check the option."""
        check_count(self.name, "k", self.k, 1)

    def judge(self, similarity: NDArray[np.float64], sizes: NDArray[np.int64]) -> Scores:
        """Score the non-empty candidates."""
        del sizes
        nearest = _similarities_to_others(similarity)[:, : self.k]
        values = nearest.mean(axis=1) if nearest.shape[1] else np.zeros(len(similarity))
        return Scores(values, (mean_similarity(similarity),))


@dataclass(frozen=True)
class Medoid(AgreementSelector):
    """Mean similarity to all other candidates."""

    name: ClassVar[str] = "medoid"

    def judge(self, similarity: NDArray[np.float64], sizes: NDArray[np.int64]) -> Scores:
        """Score the non-empty candidates."""
        del sizes
        return Scores(mean_similarity(similarity))


@dataclass(frozen=True)
class DBSCAN(AgreementSelector):
    """Medoid of the largest cluster that DBSCAN finds on the distances 1 - J.

    The score is the size of the candidate's cluster, 0 for noise. Among equal scores: the cluster with the higher
    mean similarity within, then the higher mean similarity to the candidate's own cluster (noise: to all), then to
    all. When every candidate is noise, this is the medoid of all. ``details["clusters"]`` holds the label of each
    candidate: 0 for the largest cluster, -1 for noise, None for an empty candidate; ``details["eps"]`` the distance.

    Attributes:
        eps_percentile: neighbourhood radius, as a percentile of the distances between different candidates.
        min_samples: candidates within the radius, itself included, that make a candidate a core point.
    """

    name: ClassVar[str] = "dbscan"

    eps_percentile: float = 30.0
    min_samples: int = 3

    def __post_init__(self) -> None:
        """Check the options."""
        check_number(self.name, "eps_percentile", self.eps_percentile, 0, 100)
        check_count(self.name, "min_samples", self.min_samples, 1)

    def judge(self, similarity: NDArray[np.float64], sizes: NDArray[np.int64]) -> Scores:
        """Score the non-empty candidates."""
        del sizes
        n = len(similarity)
        overall = mean_similarity(similarity)
        if n < 2:
            return Scores(np.zeros(n), details={"clusters": [-1] * n, "eps": None})
        # imported here, as it takes a second that nobody else needs to wait for
        from sklearn import cluster

        distance = 1.0 - similarity
        between = np.sort(distance[np.triu_indices(n, 1)])
        eps = float(np.percentile(between, self.eps_percentile))
        # scikit-learn refuses a radius of 0, which many identical candidates give
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
        renamed = {-1: -1} | {label: place for place, label in enumerate(order)}
        details = {"clusters": [renamed[label] for label in labels.tolist()], "eps": eps}
        return Scores(size, (cohesion, own, overall), details)

    def details(self, judged: dict[str, Any], present: list[int], n: int) -> dict[str, Any]:
        """The clusters in index order."""
        labels = dict(zip(present, judged["clusters"], strict=True))
        return judged | {"clusters": [labels.get(i) for i in range(n)]}


def _cluster_key(
    label: int, labels: NDArray[np.int64], size: NDArray[np.float64], cohesion: NDArray[np.float64]
) -> tuple[float, float, int]:
    member = int(np.flatnonzero(labels == label)[0])
    return -float(size[member]), -float(cohesion[member]), label
