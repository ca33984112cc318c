"""Intervals and tests over problems, against figures worked out by hand or by brute force."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nad_agents.evaluation.statistics import Resampling, auroc, correlation, pass_at, residual_on_length

nan = math.nan


def test_an_interval_holds_the_percentiles_of_all_resamples():
    # three problems give 27 equally likely resamples; their means are 0, 1/3, 2/3, 1 with 8, 12, 6, 1 of 27
    estimate = Resampling(3, draws=40_000).mean(np.array([0.0, 0.0, 1.0]))
    assert (estimate.value, estimate.n) == (pytest.approx(1 / 3), 3)
    # 1/27 = 3.7% of the resamples have mean 1, so the 97.5th percentile is 1; 30% have mean 0
    assert (estimate.low, estimate.high) == (0.0, 1.0)


def test_the_interval_of_a_share_is_that_of_the_binomial_distribution():
    # 40 of 100 right: a resample's count is binomial(100, 0.4), whose 2.5th and 97.5th percentiles are
    # 31 (30 has 2.48% below) and 50
    estimate = Resampling(100, draws=20_000).mean(np.array([1.0] * 40 + [0.0] * 60))
    assert estimate.low == pytest.approx(0.31, abs=0.0101)
    assert estimate.high == pytest.approx(0.50, abs=0.0101)


def test_differences_are_paired():
    # one selector is right wherever the other is, and on ten problems more
    first = np.array([1.0] * 50 + [0.0] * 50)
    second = np.array([1.0] * 60 + [0.0] * 40)
    sample = Resampling(100)
    assert sample.mean(second).low < sample.mean(first).high
    gain = sample.mean(second - first)
    assert gain.value == pytest.approx(0.1)
    # binomial(100, 0.1): 5 to 16
    assert (gain.low, gain.high) == (pytest.approx(0.05, abs=0.011), pytest.approx(0.16, abs=0.011))
    assert gain.excludes_zero


def test_problems_without_a_figure_do_not_count():
    estimate = Resampling(4, draws=4000).mean(np.array([1.0, nan, 1.0, nan]))
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (1.0, 1.0, 1.0, 2)
    assert Resampling(3, draws=10).mean(np.full(3, nan)).n == 0


def test_resamples_repeat():
    values = np.random.default_rng(0).random(30)
    assert Resampling(30).mean(values) == Resampling(30).mean(values)


def test_a_ratio_is_one_of_sums():
    estimate = Resampling(2, draws=2000).ratio(np.array([1.0, 0.0]), np.array([1.0, 3.0]))
    assert estimate.value == 0.25
    assert (estimate.low, estimate.high) == (0.0, 1.0)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        estimate = Resampling(60, draws=400, seed=int(rng.integers(1 << 30))).mean((rng.random(60) < 0.3).astype(float))
        hits += estimate.low <= 0.3 <= estimate.high
    assert 178 <= hits <= 198


def test_many_selectors_without_effect_rarely_stand_out_together():
    rng = np.random.default_rng(2)
    alone, together = 0, 0
    for trial in range(60):
        values = rng.choice([-0.5, 0.5], size=(30, 60))
        sample = Resampling(60, draws=400, seed=trial)
        alone += any(sample.mean(row).excludes_zero for row in values)
        together += bool(sample.simultaneous(values).any())
    assert alone > 30
    assert together <= 8


def test_a_true_effect_stands_out_among_many():
    rng = np.random.default_rng(3)
    values = rng.choice([-0.5, 0.5], size=(30, 80))
    values[7] = np.where(rng.random(80) < 0.8, 0.5, -0.5)
    values[9] = 0
    found = Resampling(80, draws=1000).simultaneous(values)
    assert found[7]
    assert not found[9]
    assert found.sum() <= 2


@pytest.mark.parametrize(
    ("scores", "correct", "expected"),
    [
        ([3, 2, 1], [1, 0, 0], 1.0),
        ([1, 2, 3], [1, 0, 0], 0.0),
        ([2, 2, 1, 3], [1, 0, 0, 1], 0.875),  # pairs: tie, above, above, above
        ([1, 1, 1], [1, 0, 1], 0.5),
        ([nan, 1, nan], [0, 1, 0], 1.0),
        ([nan, nan], [0, 1], 0.5),
    ],
)
def test_auroc_counts_pairs_and_half_of_ties(scores, correct, expected):
    assert auroc(np.array(scores, dtype=float), np.array(correct, dtype=bool)) == expected


@pytest.mark.parametrize("correct", [[True, True], [False, False]])
def test_auroc_needs_both_outcomes(correct):
    assert math.isnan(auroc(np.array([1.0, 2.0]), np.array(correct)))


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=12))
def test_auroc_is_the_share_of_pairs(pairs):
    scores, correct = np.array([float(s) for s, _ in pairs]), np.array([c for _, c in pairs])
    right, wrong = scores[correct], scores[~correct]
    if not len(right) or not len(wrong):
        assert math.isnan(auroc(scores, correct))
        return
    by_hand = np.mean([(a > b) + (a == b) / 2 for a, b in itertools.product(right, wrong)])
    assert auroc(scores, correct) == pytest.approx(by_hand)
    # any increasing function of the scores has the same one
    assert auroc(np.exp(scores), correct) == pytest.approx(by_hand)


@pytest.mark.parametrize(("size", "right", "expected"), [(1, 2, 0.4), (2, 2, 0.7), (5, 1, 1.0), (3, 0, 0.0), (4, 2, 1)])
def test_pass_at_is_the_share_of_subsets_with_a_right_candidate(size, right, expected):
    correct = np.arange(5) < right
    by_hand = np.mean([any(correct[list(c)]) for c in itertools.combinations(range(5), size)])
    assert pass_at(size, correct) == pytest.approx(expected) == pytest.approx(by_hand)


def test_pass_at_refuses_more_than_there_are():
    with pytest.raises(ValueError, match="size=3 must be from 1 to the 2"):
        pass_at(3, np.array([True, False]))


def test_what_is_left_after_length():
    # the least-squares line through (1, 1), (2, 4), (3, 4) is 1.5 x, so -0.5, 1, -0.5 are left
    left = residual_on_length(np.array([1.0, 4.0, 4.0]), np.array([1, 2, 3]))
    assert left == pytest.approx([-0.5, 1.0, -0.5])


def test_nothing_is_left_of_a_score_that_is_length():
    tokens = np.array([97, 13, 55, 201, 31])
    left = residual_on_length(-tokens / 7.0, tokens)
    # not even an order of rounding errors, which would tell candidates apart
    assert len(set(left.tolist())) == 1
    assert auroc(left, np.array([True, False, True, False, False])) == 0.5


def test_two_scores_keep_their_difference_and_nan_stays():
    assert residual_on_length(np.array([1.0, 3.0, nan]), np.array([5, 9, 7])) == pytest.approx(
        [-1, 1, nan], nan_ok=True
    )
    assert residual_on_length(np.array([1.0, 2.0, 6.0]), np.array([4, 4, 4])) == pytest.approx([-2, -1, 3])
    assert np.isnan(residual_on_length(np.array([nan, nan]), np.array([1, 2]))).all()


@given(st.lists(st.tuples(st.floats(-100, 100), st.integers(1, 500)), min_size=3, max_size=10))
@example([(5e-324, 1), (3.9e-305, 1), (3.9e-305, 1)])
def test_residuals_do_not_correlate_with_length(points):
    values, tokens = np.array([v for v, _ in points]), np.array([t for _, t in points])
    left = residual_on_length(values, tokens)
    if len(set(tokens.tolist())) > 1:
        scale = np.abs(values - values.mean()).max() * np.abs(tokens - tokens.mean()).max() * len(points)
        assert abs((left * (tokens - tokens.mean())).sum()) <= 1e-7 * scale + 1e-12


def test_correlations_are_those_of_scipy():
    from scipy.stats import pearsonr, spearmanr

    rng = np.random.default_rng(4)
    xs = [rng.random(size) for size in (3, 0, 5, 4)]
    ys = [np.round(x + rng.random(len(x)), 1) for x in xs]
    x, y = np.concatenate(xs), np.concatenate(ys)
    pearson, spearman = (correlation(xs, ys, ranks=ranks, draws=200) for ranks in (False, True))
    assert pearson.value == pytest.approx(pearsonr(x, y).statistic)
    assert spearman.value == pytest.approx(spearmanr(x, y).statistic)
    assert pearson.low <= pearson.value <= pearson.high
    # a problem without points is none
    assert pearson.n == 3


def test_a_correlation_within_problems_ignores_their_level():
    # within each problem y falls as x rises; problems with higher x have higher y
    xs = [np.array([0.0, 1.0, 2.0]) + 10 * i for i in range(5)]
    ys = [np.array([2.0, 1.0, 0.0]) + 10 * i for i in range(5)]
    assert correlation(xs, ys, ranks=False, draws=50).value > 0.9
    assert correlation(xs, ys, ranks=False, within=True, draws=50).value == pytest.approx(-1)


def test_a_correlation_of_constants_is_unknown():
    flat = [np.ones(4), np.ones(4)]
    assert correlation(flat, flat, ranks=False, draws=20).n == 0
    assert correlation([np.ones(1)], [np.ones(1)], ranks=True).n == 0
