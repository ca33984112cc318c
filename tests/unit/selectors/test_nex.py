"""Phases, cycles and the good-mass fraction of NEX."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nad_agents.exceptions import ConfigurationError
from nad_agents.selectors import NEX, rank
from nad_agents.selectors.nex import explore_phases
from tests.unit.builders import make_group, make_rollout

E1, E2 = range(30), range(30, 60)


def rows(neurons, width=10):
    """The neurons in order, `width` to a token."""
    neurons = list(neurons)
    return [neurons[i : i + width] for i in range(0, len(neurons), width)]


def two_cycles(*, second_reuses):
    """Explore E1 and use it, explore E2 and use E1 again or E2: 3 + 6 + 3 + 6 tokens."""
    use = rows(E2) * 2 if second_reuses else rows(E1) * 2
    return make_rollout([*rows(E1), *rows(E1), *rows(E1), *rows(E2), *use])


def test_spikes_of_novelty_are_phases():
    novelty = np.array([10, 10, 10, 0, 0, 0, 0, 0, 0, 10, 10, 10, 0, 0, 0, 0, 0, 0], dtype=float)
    assert explore_phases(novelty).astype(int).tolist() == [1] * 3 + [0] * 6 + [1] * 3 + [0] * 6


def test_single_rows_are_merged_into_the_phase_before():
    novelty = np.array([0.0] * 10 + [50.0] + [0.0] * 10)
    assert not explore_phases(novelty, stickiness=0.5)[10]
    assert explore_phases(novelty, stickiness=0.5, min_run=1)[10]


@pytest.mark.parametrize("novelty", [[], [5.0, 1.0], [3.0] * 12])
def test_without_variation_nothing_explores(novelty):
    assert not explore_phases(np.array(novelty)).any()


def test_good_mass_fraction_by_hand():
    group = make_group([two_cycles(second_reuses=False)])
    scores = NEX(row_tokens=1).score(group)
    # cycle 1: all 60 activations while exploiting are of E1, reuse 1; cycle 2: none is of E2, reuse 0
    assert scores.details == {"reuse": [0.5], "cycles": [2]}
    # median reuse 1/2: E1 is effective (weight 1), E2 redundant (weight -1)
    # activations: E1 30 + 60 + 60, E2 30; good mass 150 of 180
    assert scores.values == pytest.approx([150 / 180], abs=1e-4)


def test_weights_are_shared_by_the_group():
    # only the first candidate has phases; it makes E1 good and E2 bad, which judges the others
    good = make_rollout([*rows(E1)] * 6, tokens=range(100, 118))
    bad = make_rollout([*rows(E2)] * 6, tokens=range(200, 218))
    group = make_group([two_cycles(second_reuses=False), bad, good])
    scores = NEX(row_tokens=1).score(group)
    assert scores.values[1] == pytest.approx(0, abs=1e-4)
    assert scores.values[2] == pytest.approx(1, abs=1e-4)
    assert rank(scores, group) == [2, 0, 1]


def test_credit_for_and_against_a_neuron_is_weighed():
    e3 = range(60, 90)
    half = [[*a[:5], *b[5:]] for a, b in zip(rows(E1) * 2, rows(e3) * 2, strict=True)]
    other = make_rollout([*rows(e3), *rows(e3), *rows(e3), *rows(E1), *half], tokens=range(40, 58))
    group = make_group([two_cycles(second_reuses=False), other])
    scores = NEX(row_tokens=1).score(group)
    # the other: E3 is reused by 1, E1 by 1/2, median 3/4, so E3 gains 1/4 and E1 loses 1/4
    assert scores.details == {"reuse": [0.5, 0.75], "cycles": [2, 2]}
    # E1: 1/2 for, 1/4 against: tanh(log 2) = (4 - 1) / (4 + 1) = 0.6; E2 -1; E3 1
    # first candidate: E1 150 * 0.6 = 90 good, E2 30 bad; the other has nothing bad
    assert scores.values == pytest.approx([90 / 120, 1], abs=1e-4)


def test_without_credit_the_reuse_decides():
    # both cycles of a candidate have the same reuse, which is then its median: no neuron gets credit
    reusing = two_cycles(second_reuses=True)
    new = iter(range(60, 100))
    using = [[*row[:9], next(new)] for row in rows(E1) * 2], [[*row[:9], next(new)] for row in rows(E2) * 2]
    wasteful = make_rollout([*rows(E1), *using[0], *rows(E2), *using[1]], tokens=range(50, 68))
    group = make_group([wasteful, reusing, make_rollout([])])
    scores = NEX(row_tokens=1).score(group)
    assert np.array_equal(scores.values, [0, 0, math.nan], equal_nan=True)
    assert scores.details == {"reuse": [pytest.approx(0.9), 1, None], "cycles": [2, 2, 0]}
    assert rank(scores, group) == [1, 0, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"row_tokens": 0}, "nex: row_tokens=0"),
        ({"min_run": 0}, "nex: min_run=0"),
        ({"stickiness": 1.5}, "nex: stickiness=1.5"),
        ({"stickiness": 1}, "stickiness=1 forbids or forces a change of phase"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ConfigurationError, match=message):
        NEX(**options)
