"""Selectors on the number of activated neurons, with and without length."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nad_agents.selectors import (
    MinAct,
    MinActPerToken,
    MinActResidual,
    rank,
)
from nad_agents.selectors.sparsity import length_residual
from tests.unit.builders import make_group, make_rollout


def of_length(tokens, neurons):
    """A candidate of so many tokens and so many different neurons."""
    return make_rollout([range(neurons), *([[0]] * (tokens - 1))])


def test_min_act_raw_and_per_token():
    group = make_group([of_length(2, 6), of_length(4, 8), of_length(1, 4), make_rollout([])])
    assert np.array_equal(MinAct().score(group).values, [-6, -8, -4, math.nan], equal_nan=True)
    assert rank(MinAct().score(group), group) == [2, 0, 1, 3]
    assert np.array_equal(MinActPerToken().score(group).values, [-3, -2, -4, math.nan], equal_nan=True)
    assert MinAct().score(group).details == {"activated_neurons": [6, 8, 4, 0]}


def test_min_act_residual_takes_the_line_on_length_out():
    # tokens 1, 2, 3 and counts 4, 8, 9: slope ((4-7)(-1) + 0 + (9-7)) / 2 = 5/2, line 4.5, 7, 9.5 -> -1/2, 1, -1/2
    group = make_group([of_length(1, 4), of_length(2, 8), of_length(3, 9)])
    assert MinActResidual().score(group).values == pytest.approx([0.5, -1, 0.5])


def test_residual_without_a_line():
    # two candidates, or one length: the deviation from the mean
    assert length_residual(np.array([4, 10]), np.array([1, 9])).tolist() == [-3, 3]
    assert length_residual(np.array([3, 6, 9]), np.array([5, 5, 5])).tolist() == [-3, 0, 3]
    assert length_residual(np.array([7]), np.array([2])).tolist() == [0]


@given(st.lists(st.tuples(st.integers(1, 30_000), st.integers(1, 5_000)), min_size=3, max_size=12))
def test_residual_is_least_squares(points):
    counts, tokens = np.array(points).T
    rest = length_residual(counts, tokens)
    if len(set(tokens.tolist())) > 1:
        line = np.polynomial.Polynomial.fit(tokens, counts, 1)
        np.testing.assert_allclose(rest, counts - line(tokens), atol=1e-6)
    assert rest.sum() == pytest.approx(0, abs=1e-6)
