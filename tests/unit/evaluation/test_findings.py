"""Neurons, entropy and agreement of right and wrong candidates."""

import math

import numpy as np
import pytest

from nad_agents.evaluation.findings import activated_counts, agreement_by_outcome, count_entropy
from nad_agents.evaluation.statistics import Resampling
from tests.unit.evaluation.handmade_measures import measured


def test_right_candidates_activate_fewer_neurons_only_because_they_are_shorter():
    # ten neurons per token: right ones have 10 and 20 tokens, wrong ones 30 and 40
    problem = measured("a", [1, 1, 0, 0], [[0, 1, 2, 3]])
    one_sided = measured("b", [1, 1, 1, 1], [[0, 1, 2, 3]])
    counts = activated_counts([problem, one_sided], Resampling(2, draws=50))
    assert counts["neurons, right"].value == 150
    assert counts["neurons, wrong"].value == 350
    assert counts["neurons, right minus wrong"].value == -200
    assert counts["neurons, right minus wrong"].n == 1
    assert counts["neurons at equal length, right minus wrong"].value == pytest.approx(0, abs=1e-6)


def test_agreement_within_and_across():
    problem = measured("a", [1, 1, 0, 0], [[0, 1, 2, 3]])
    similarity = np.array([[1, 0.9, 0.2, 0.4], [0.9, 1, 0.4, 0.2], [0.2, 0.4, 1, 0.1], [0.4, 0.2, 0.1, 1]])
    problem.similarity[:] = similarity
    one_sided = measured("b", [0, 0, 0, 0], [[0, 1, 2, 3]])
    found = agreement_by_outcome([problem, one_sided], Resampling(2, draws=50))
    assert {name: (round(e.value, 9), e.n) for name, e in found.items()} == {
        "right and right": (0.9, 1),
        "right and wrong": (0.3, 1),
        "wrong and wrong": (0.1, 1),
    }


def test_counts_and_entropy_correlate_through_length_alone():
    # counts and entropies both follow length; what is left of them has nothing in common
    problems = [measured(str(i), [1, 0, 0, 0], [[0, 1, 2, 3]]) for i in range(3)]
    found = count_entropy(problems)
    assert found["candidate, Pearson"].value == pytest.approx(1)
    assert math.isnan(found["candidate within a problem, without length, Pearson"].value)
    assert math.isnan(found["chunk, Pearson"].value)
