"""Shares of rank, and their weighted mean."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nad_agents.selectors import (
    NADFusion,
    rank,
)
from nad_agents.selectors.fusion import rank_share
from tests.unit.builders import make_group, make_rollout


def test_rank_share():
    assert rank_share(np.array([5.0, 1.0, 5.0, math.nan])).tolist() == [5 / 6, 1 / 3, 5 / 6, 0]
    assert rank_share(np.array([2.0])).tolist() == [1]


def test_fusion_by_hand():
    # knn: the first two share 3 of 5 neurons (0.6 and 0.2 to the other: 0.4), the third 1 of 5 with each (0.2)
    sets = [{0, 1, 2, 3}, {0, 1, 2, 4}, {0, 5}]
    group = make_group([make_rollout([s], tokens=[i], logprobs=-1 - i) for i, s in enumerate(sets)])
    scores = NADFusion().score(group)
    assert scores.details == {
        "agreement": [0.75, 0.75, 0],
        "sparsity": [0.25, 0.25, 1],
        "confidence": [1, 0.5, 0],
    }
    # weights 1, 1/2, 1
    assert scores.values == pytest.approx([1.875 / 2.5, 1.375 / 2.5, 0.5 / 2.5])
    only = NADFusion(agreement=0, sparsity=1, confidence=0).score(group)
    assert rank(only, group)[0] == 2
