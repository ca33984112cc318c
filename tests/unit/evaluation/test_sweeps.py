"""What selecting costs in tokens, and the points and the frontier of sweeps."""

import numpy as np
import pytest

from nad_agents.evaluation.statistics import Resampling
from nad_agents.evaluation.sweeps import frontier, sweep_points, tokens_needed, tokens_spent
from nad_agents.evaluation.variants import Variant
from nad_agents.neurons.comparison import ComparisonConfig
from tests.unit.evaluation.handmade_measures import SWEEPING, same_everywhere, swept


@pytest.mark.parametrize(
    ("pick", "limit", "expected"),
    # three candidates of 10, 40 and 100 tokens
    [(2, None, 150), (2, 32, 10 + 32 + 100), (0, 32, 10 + 32 + 32), (1, 1000, 150), (2, 1, 1 + 1 + 100)],
)
def test_tokens_when_all_but_the_pick_are_dropped(pick, limit, expected):
    assert tokens_spent(np.array([10, 40, 100]), pick, limit) == expected


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        (Variant("knn", "knn"), 150),
        (Variant("first", "first"), 100),
        (Variant("shortest", "shortest"), 10 + 10 + 100),
        (Variant("common", "knn", ComparisonConfig(common_prefix=True)), 10 + 10 + 100),
        (Variant("early", "knn", ComparisonConfig(chunk_size=20, compare_chunks=1)), 10 + 20 + 100),
        (Variant("later", "knn", ComparisonConfig(chunk_size=20, compare_chunks=1), skip_shared=True), 10 + 25 + 100),
        (Variant("checked", "knn", ComparisonConfig(chunk_size=20, compare_chunks=1), checked=True), 150),
    ],
)
def test_tokens_that_a_selector_needs(variant, expected):
    # all begin with the same five tokens
    assert tokens_needed(variant, same_everywhere("a", [1, 0, 0], [0, 1, 2], tokens=[10, 40, 100]), 2) == expected


def test_empty_candidates_do_not_end_the_common_prefix():
    shortest = Variant("shortest", "shortest")
    assert tokens_needed(shortest, same_everywhere("a", [1, 0, 0], [0, 1, 2], tokens=[0, 40, 100]), 2) == 40 + 100
    assert tokens_needed(shortest, same_everywhere("a", [1, 0], [0, 1], tokens=[0, 0]), 0) == 0


def test_points_of_a_sweep():
    problems = [swept("a", [1, 0, 0, 0], 0, 1), swept("b", [0, 1, 0, 1], 2, 1)]
    points = {(p.sweep, p.setting, p.label): p for p in sweep_points(problems, SWEEPING, Resampling(2, draws=50))}
    early, late = points["position", 32, "knn"], points["position", -1, "knn"]
    assert (early.accuracy.value, late.accuracy.value) == (0.5, 0.5)
    # 4 x 32 tokens, and 8 and 28 to finish the pick
    assert (early.tokens, late.tokens) == (128 + 18, 220)
    assert early.saved == pytest.approx(1 - 146 / 220)
    assert early.gain.value == pytest.approx(0.5 - (0.25 + 0.5) / 2)
    two, all_four = points["candidates", 2, "knn"], points["candidates", 4, "knn"]
    assert (two.accuracy.value, two.tokens, all_four.tokens) == (0.5, 110, 220)
    oracle = [points["candidates", k, "oracle (pass@k)"].accuracy.value for k in (2, 4)]
    # of six pairs three have candidate 0; all but one of six have candidate 1 or 3
    assert oracle == [pytest.approx((3 / 6 + 5 / 6) / 2), 1.0]


def test_the_frontier_leaves_out_what_costs_more_and_gives_no_more():
    problems = [swept("a", [1, 0, 0, 0], 0, 0), swept("b", [0, 1, 0, 1], 1, 2)]
    found = frontier(sweep_points(problems, SWEEPING, Resampling(2, draws=50)))
    assert [(p.sweep, p.setting, p.accuracy.value) for p in found] == [("candidates", 2, 0.5), ("position", 32, 1.0)]
