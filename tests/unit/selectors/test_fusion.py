"""Shares of rank, and their weighted mean."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nad_agents.selectors import KNN, Medoid, NADFusion, rank
from nad_agents.selectors.fusion import rank_share
from tests.unit.builders import make_group, make_rollout


def test_rank_share():
    assert rank_share(np.array([5.0, 1.0, 5.0, math.nan])).tolist() == [5 / 6, 1 / 3, 5 / 6, 0]
    assert rank_share(np.array([2.0])).tolist() == [1]


def test_fusion_by_hand():
    # the first two share 3 of 5 neurons, the third shares 1 of 5 with each: means 0.4, 0.4 and 0.2
    sets = [{0, 1, 2, 3}, {0, 1, 2, 4}, {0, 5}]
    group = make_group([make_rollout([s], tokens=[i], logprobs=-1 - i) for i, s in enumerate(sets)])
    scores = NADFusion(sparsity=0.5).score(group)
    assert scores.details == {
        "agreement": [0.75, 0.75, 0],
        "confidence": [1, 0.5, 0],
        "sparsity": [0.25, 0.25, 1],
    }
    # weights 1, 1, 1/2
    assert scores.values == pytest.approx([1.875 / 2.5, 1.375 / 2.5, 0.5 / 2.5])
    assert NADFusion().score(group).values == pytest.approx([1.75 / 2, 1.25 / 2, 0])
    only = NADFusion(agreement=0, sparsity=1, confidence=0).score(group)
    assert rank(only, group)[0] == 2


def test_k_counts_the_nearest_others_only():
    # 0 and 1 are alike; 2 is near to both, 3 to 2 alone
    sets = [{0, 1, 2, 3}, {0, 1, 2, 3}, {0, 1, 8, 9}, {8, 9, 10, 11}]
    group = make_group([make_rollout([s], tokens=[i], logprobs=-1) for i, s in enumerate(sets)])
    for k, selector in ((1, KNN(1)), (None, Medoid())):
        near = NADFusion(confidence=0, k=k).score(group)
        assert near.values.tolist() == rank_share(selector.score(group).values).tolist()


def test_candidates_that_the_limit_cut_are_compared_with_one_another_and_rank_last():
    sets = [{0, 1}, {0, 1}, {0, 2}, {7, 8}]
    ends = ["length", "length", "stop", "stop"]
    logprobs = [-1.0, -2.0, -4.0, -3.0]
    group = make_group(
        [make_rollout([s], tokens=[i], logprobs=logprobs[i], finish_reason=ends[i]) for i, s in enumerate(sets)]
    )
    scores = NADFusion().score(group)
    # among the whole ones both agree alike with the other, and 3 is likelier
    assert scores.values.tolist() == [-0.25, -0.75, 0.25, 0.75]
    assert rank(scores, group) == [3, 2, 0, 1]
    assert scores.details["cut"] == [0, 1]
    assert rank(NADFusion(whole_first=False).score(group), group)[0] == 0
    cut = make_group([make_rollout([s], tokens=[i], finish_reason="length") for i, s in enumerate(sets)])
    assert NADFusion().score(cut).values.min() >= 0


def test_without_neurons_confidence_decides():
    group = make_group([make_rollout([[]], tokens=[i], logprobs=value) for i, value in enumerate((-3.0, -1.0, -2.0))])
    assert NADFusion().score(group).values.tolist() == [0, 1, 0.5]
