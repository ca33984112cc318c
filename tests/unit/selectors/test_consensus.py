"""The leanest of three picks, and pairwise duels."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given, settings

from nad_agents.neurons.activated_sets import similarity_matrix
from nad_agents.neurons.comparison import ComparisonConfig
from nad_agents.selectors import ConsensusMin, Copeland, rank
from tests.unit.builders import group_of_sets, groups
from tests.unit.selectors.neuron_sets import C3, D3, MID, PAIR1, PAIR2, A, B, C, D


def test_consensus_min_takes_the_leanest_pick():
    group = group_of_sets(PAIR1, PAIR2, MID, C3, D3)
    scores = ConsensusMin(k=1).score(group)
    # knn (k = 1) picks Pair1 with 10 neurons, medoid and dbscan pick Mid with 7
    assert scores.details["picks"] == {"knn": 0, "medoid": 2, "dbscan": 2}
    assert scores.values.tolist() == [1, 0, 1, 0, 0]
    ranking = rank(scores, group)
    assert ranking[:2] == [2, 0]
    # places of Pair2, C3, D3 in knn: 1, 2, 3 or later; all follow the picks
    assert sorted(ranking[2:]) == [1, 3, 4]


def test_copeland_by_hand():
    # A-B: C is as near to both, D too: nobody wins. A-C: B is nearer to A. B-C: A is nearer to B.
    # A-D, B-D: the two others are nearer to A (B). C-D: A and B are nearer to C.
    group = group_of_sets(A, B, C, D)
    scores = Copeland().score(group)
    assert scores.values.tolist() == [2, 2, 1, 0]
    assert scores.tie_breaks[0].tolist() == [0, 0, -2, -3]


def copeland_by_definition(similarity):
    n = len(similarity)
    wins = [0] * n
    for i in range(n):
        for j in range(n):
            votes = 0
            for voter in set(range(n)) - {i, j}:
                votes += np.sign(similarity[voter, i] - similarity[voter, j])
            wins[i] += votes > 0
    return wins


@settings(deadline=None, max_examples=20)
@given(groups(max_size=6))
def test_copeland_matches_its_definition(group):
    assume(all(len(r) and (r.neurons >= 0).any() for r in group.rollouts))
    expected = copeland_by_definition(similarity_matrix(group, ComparisonConfig()))
    assert Copeland().score(group).values.tolist() == expected
