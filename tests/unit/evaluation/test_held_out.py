"""Choices made on one half of the problems and reported on the other."""

import numpy as np
import pytest

from nad_agents.evaluation.held_out import choose_on_half, repeat_splits, split_half
from nad_agents.evaluation.variants import weight_sweep
from tests.unit.evaluation.handmade_measures import PLAN, measured, same_everywhere


def test_half_of_the_problems_whatever_their_number_and_order():
    names = [f"p{i}" for i in range(41)]
    half = split_half(names, 0)
    assert half.sum() == 20
    backwards = split_half(names[::-1], 0)
    assert {n for n, h in zip(names, half, strict=True) if h} == {
        n for n, h in zip(names[::-1], backwards, strict=True) if h
    }
    assert (split_half(names, 1) != half).any()


def test_a_choice_is_reported_on_problems_that_it_was_not_made_on():
    names = [f"p{i}" for i in range(40)]
    half = split_half(names, 0)
    labels = [v.label for v in PLAN.standard]
    problems = []
    for name, first in zip(names, half, strict=True):
        # medoid is right on all of the first half and on none of the other; all others the opposite
        rankings = [[0, 1] if (label == "medoid") == first else [1, 0] for label in labels]
        problems.append(measured(name, [1, 0], rankings))
    (selector,) = [h for h in choose_on_half(problems, PLAN) if h.question == "selector"]
    assert (selector.choice, selector.chosen_on) == ("medoid", 20)
    assert (selector.accuracy.value, selector.accuracy.n) == (0.0, 20)
    assert selector.gain.value == -0.5


def test_every_question_is_answered(measures, plan):
    found = {h.question: h for h in choose_on_half(measures, plan)}
    assert list(found) == [
        "selector",
        "selector, with a sandbox",
        "neurons per token of knn",
        "tokens seen by knn",
        "neighbours of knn",
        "weights of nad_fusion, agreement:sparsity:confidence",
        "fewest tokens within 1 point of the best",
    ]
    families = {v.label: v.family for v in plan.standard}
    assert families[found["selector"].choice] != "execution"
    assert found["weights of nad_fusion, agreement:sparsity:confidence"].choice in weight_sweep()
    cheapest = found["fewest tokens within 1 point of the best"]
    assert 0 < cheapest.tokens < np.mean([m.tokens.sum() for m in measures])
    assert {h.chosen_on for h in found.values()} == {8}


def test_luck_does_not_survive_another_half():
    rng = np.random.default_rng(0)
    problems = []
    for i in range(60):
        correct = rng.permutation([1, 1, 0, 0])
        problems.append(measured(str(i), correct, [rng.permutation(4) for _ in PLAN.standard]))
    found = repeat_splits(problems, PLAN, halvings=300)
    # the best of six selectors without effect seems to gain on its own half, and loses it on the other
    assert found.expected > 0.05
    assert found.gain < 0.03
    assert sum(share for _, share in found.choices) <= 1 + 1e-9
    assert found == repeat_splits(problems, PLAN, halvings=300)


def test_a_selector_that_is_better_is_chosen_on_most_halves():
    rng = np.random.default_rng(1)
    problems = []
    for i in range(60):
        rankings = [rng.permutation(4) for _ in PLAN.standard]
        rankings[2] = np.array([0, 1, 2, 3])
        problems.append(measured(str(i), [1, 0, 0, 0], rankings))
    found = repeat_splits(problems, PLAN, halvings=100)
    assert found.choices[0] == (PLAN.standard[2].label, 1.0)
    assert found.gain == pytest.approx(0.75)


def test_too_few_problems_are_not_halved():
    problems = [same_everywhere(name, [1, 0], [0, 1]) for name in "abc"]
    assert choose_on_half(problems, PLAN) == []
    assert repeat_splits(problems, PLAN) is None
