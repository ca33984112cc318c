"""Selectors on the similarity matrix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nad_agents.exceptions import ConfigurationError
from nad_agents.neurons.comparison import ComparisonConfig
from nad_agents.selectors import DBSCAN, KNN, ConsensusMin, Copeland, Medoid, rank
from tests.unit.builders import group_of_sets, groups, make_group, make_rollout
from tests.unit.selectors.neuron_sets import C3, D3, MID, PAIR1, PAIR2, A, B, C, D


def test_knn_by_hand():
    group = group_of_sets(A, B, C, D)
    one = KNN(k=1).score(group)
    assert one.values == pytest.approx([3 / 5, 3 / 5, 1 / 3, 0])
    two = KNN(k=2).score(group).values
    assert two == pytest.approx([(3 / 5 + 1 / 3) / 2, (3 / 5 + 1 / 3) / 2, 1 / 3, 0])


def test_knn_ties_go_to_the_smaller_mean_distance():
    group = group_of_sets(PAIR2, PAIR1, MID, C3, D3)
    scores = KNN(k=1).score(group)
    assert scores.values[0] == scores.values[1] == 0.9
    # Pair1: (9/10 + 5/12 + 3/13 + 2/12) / 4 = 0.4286; Pair2: (9/10 + 4/12 + 3/12 + 1/12) / 4 = 0.3917
    assert scores.tie_breaks[0][:2] == pytest.approx([0.391667, 0.428526], abs=1e-6)
    assert rank(scores, group)[:2] == [1, 0]


def test_knn_with_fewer_others_than_k_takes_all():
    group = group_of_sets(A, B, C)
    assert np.array_equal(KNN(k=3).score(group).values, Medoid().score(group).values)


def test_medoid_by_hand():
    group = group_of_sets(PAIR1, PAIR2, MID, C3, D3)
    # Mid: (5/12 + 4/12 + 5/8 + 4/7) / 4 = 0.486607
    assert Medoid().score(group).values[2] == pytest.approx(0.486607, abs=1e-6)
    assert rank(Medoid().score(group), group)[0] == 2


def test_similarity_is_a_parameter():
    # as sets both are equal to the first; in how often neuron 0 was used only the second is
    group = make_group(
        [make_rollout([[0], [0], [0, 1]]), make_rollout([[0], [0], [0, 1]]), make_rollout([[1], [1], [0, 1]])]
    )
    assert Medoid().score(group).values.tolist() == [1, 1, 1]
    # counts (3, 1) and (1, 3): minima 2, maxima 6
    weighted = Medoid(comparison=ComparisonConfig("weighted_jaccard")).score(group)
    assert weighted.values == pytest.approx([(1 + 1 / 3) / 2, (1 + 1 / 3) / 2, 1 / 3])


def test_dbscan_takes_the_medoid_of_the_largest_cluster():
    group = group_of_sets(PAIR1, PAIR2, MID, C3, D3)
    scores = DBSCAN().score(group)
    # sorted distances: 1/10, 3/8, 3/7, 7/12, 8/12, ...; the 30th percentile lies at 2.7: 3/7 + 0.7 * (7/12 - 3/7)
    assert scores.details["eps"] == pytest.approx(3 / 7 + 0.7 * (7 / 12 - 3 / 7))
    # within it Mid has itself, C3 and D3: a cluster; the pair is no core, as two are fewer than three
    assert scores.details["clusters"] == [-1, -1, 0, 0, 0]
    assert scores.values.tolist() == [0, 0, 3, 3, 3]
    # in the cluster: Mid (5/8 + 4/7) / 2, C3 (5/8 + 2/8) / 2, D3 (4/7 + 2/8) / 2; then the noise by its mean
    assert rank(scores, group) == [2, 3, 4, 0, 1]


def test_dbscan_of_nothing_but_noise_is_the_medoid():
    group = group_of_sets(A, B, C)
    # distances 2/5, 2/3, 2/3; radius 2/5 + 0.6 * (2/3 - 2/5) = 0.56: no candidate has three within it
    scores = DBSCAN().score(group)
    assert scores.details["clusters"] == [-1, -1, -1]
    assert rank(scores, group) == rank(Medoid().score(group), group) == [0, 1, 2]


def test_dbscan_labels_the_larger_cluster_first():
    small = [{50, 51, 52, i} for i in (60, 61, 62)]
    large = [{0, 1, 2, i} for i in (10, 11, 12, 13)]
    scores = DBSCAN().score(group_of_sets(*small, *large))
    assert scores.details["clusters"] == [1, 1, 1, 0, 0, 0, 0]
    assert scores.values.tolist() == [3, 3, 3, 4, 4, 4, 4]


def test_dbscan_of_identical_candidates_has_one_cluster():
    scores = DBSCAN().score(group_of_sets(A, A, A, A))
    assert scores.details == {"clusters": [0, 0, 0, 0], "eps": 0.0}
    assert scores.values.tolist() == [4, 4, 4, 4]


@pytest.mark.parametrize("selector", [KNN(), Medoid(), DBSCAN(), Copeland()])
def test_a_lone_candidate_agrees_with_nobody(selector):
    scores = selector.score(group_of_sets(A))
    assert scores.values.tolist() == [0]
    assert rank(scores, group_of_sets(A)) == [0]


@pytest.mark.parametrize("selector", [KNN(), Medoid(), DBSCAN(), Copeland(), ConsensusMin()])
def test_empty_candidates_rank_last_and_change_nothing(selector):
    full = group_of_sets(A, B, C, D)
    with_empty = make_group([make_rollout([]), *full.rollouts, make_rollout([])])
    scores = selector.score(with_empty)
    assert np.isnan(scores.values[[0, 5]]).all()
    assert np.array_equal(scores.values[1:5], selector.score(full).values)
    assert set(rank(scores, with_empty)[-2:]) == {0, 5}
    empty = make_group([make_rollout([]), make_rollout([])])
    assert rank(selector.score(empty), empty) == [0, 1]
    assert rank(selector.score(make_group([])), make_group([])) == []


@settings(deadline=None, max_examples=30)
@given(groups(min_size=2), st.data(), st.sampled_from(["jaccard", "weighted_jaccard_rates", "cosine"]))
def test_a_duplicate_never_lowers_the_score_of_its_original(group, data, similarity):
    # The copy has similarity 1 to the original, the highest there is. The mean of the k largest similarities and
    # the mean of all can then only rise. This is about the original's own score, not about its rank: the copy may
    # raise another candidate's score by more.
    i = data.draw(st.integers(0, len(group) - 1))
    assume((group.rollouts[i].neurons >= 0).any())
    larger = make_group([*group.rollouts, group.rollouts[i]], prompt=group.prompt)
    for kind in (KNN, Medoid):
        selector = kind(comparison=ComparisonConfig(similarity))
        before, after = selector.score(group).values, selector.score(larger).values
        assert after[i] >= before[i] - 1e-12
        assert after[-1] == after[i]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KNN(k=0), "knn: k=0 must be a whole number of at least 1"),
        (lambda: KNN(k=2.5), "knn: k=2.5"),
        (lambda: DBSCAN(eps_percentile=101), "dbscan: eps_percentile=101 must be a number from 0 to 100"),
        (lambda: DBSCAN(min_samples=0), "dbscan: min_samples=0"),
        (lambda: ConsensusMin(k=True), "consensus_min: k=True"),
        (lambda: ConsensusMin(eps_percentile=float("nan")), "consensus_min: eps_percentile=nan"),
    ],
)
def test_impossible_options(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()
