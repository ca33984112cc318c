"""Intervals and tests over problems: bootstrap, within-problem AUROC, correlation.

Resampling always draws problems, because the candidates of one problem are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

__all__ = ["Estimate", "Resampling", "auroc", "correlation", "pass_at", "residual_on_length"]

_ROUNDING = 1e-9
"""Share of the largest residual below which differences are taken for rounding errors."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its uncertainty.

    Attributes:
        value: The estimate.
        low: Lower end of the 95% interval.
        high: Upper end of the 95% interval.
        n: Number of problems that the estimate is based on.
    """

    value: float
    low: float
    high: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


class Resampling:
    """Bootstrap over problems with percentile intervals; all figures use the same resamples, so differences are paired.

    Args:
        n: Number of problems.
        draws: Number of resamples.
        seed: Seed of the resamples.

    Attributes:
        weights: Float64 [draws, n], how often each problem is in each resample.
        n: Number of problems.
    """

    def __init__(self, n: int, *, draws: int = 10_000, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        counts = rng.multinomial(n, np.full(n, 1 / n), size=draws) if n else np.zeros((draws, 0))
        self.weights: NDArray[np.float64] = counts.astype(np.float64)
        self.n = n

    def mean(self, values: NDArray[np.floating]) -> Estimate:
        """Estimate the mean over problems, leaving out those with NaN.

        Args:
            values: [n], one number per problem.
        """
        known = np.isfinite(values)
        if not known.any():
            return Estimate(np.nan, np.nan, np.nan, 0)
        sizes = self.weights @ known
        # resamples without any such problem are left out
        sums = (self.weights @ np.where(known, values, 0.0))[sizes > 0] / sizes[sizes > 0]
        low, high = np.percentile(sums, [2.5, 97.5])
        return Estimate(float(np.mean(values[known])), float(low), float(high), int(known.sum()))

    def ratio(self, numerators: NDArray[np.floating], denominators: NDArray[np.floating]) -> Estimate:
        """Estimate a ratio of sums over problems.

        Args:
            numerators: [n], one number per problem.
            denominators: [n], one number per problem.
        """
        below = self.weights @ denominators
        drawn = (self.weights @ numerators)[below > 0] / below[below > 0]
        total = denominators.sum()
        if not total or not len(drawn):
            return Estimate(np.nan, np.nan, np.nan, 0)
        low, high = np.percentile(drawn, [2.5, 97.5])
        return Estimate(float(numerators.sum() / total), float(low), float(high), int((denominators > 0).sum()))

    def simultaneous(self, values: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Test which of several means differ from zero, at a level of 5% for all of them together.

        A mean differs if it exceeds the 95th percentile of the largest studentized deviation in a resample (max-t).

        Args:
            values: [figures, n], one number per figure and problem, all finite.

        Returns:
            Bool [figures].
        """
        mean, error = values.mean(axis=1), values.std(axis=1) / np.sqrt(self.n)
        varies = error > 0
        if not varies.any():
            return np.zeros(len(values), dtype=bool)
        drawn = self.weights @ values[varies].T / self.n
        largest = np.max(np.abs(drawn - mean[varies]) / error[varies], axis=1)
        return np.asarray(varies & (np.abs(mean) > np.percentile(largest, 95) * error))


def auroc(scores: NDArray[np.floating], correct: NDArray[np.bool_]) -> float:
    """Return how often a correct candidate scores above an incorrect one, with ties counting half.

    NaN counts as the lowest score.

    Args:
        scores: Float [candidates], higher for better.
        correct: Bool [candidates], whether each is right.

    Returns:
        A number in [0, 1]; NaN if all candidates are right or all are wrong.
    """
    right = int(correct.sum())
    wrong = len(correct) - right
    if not right or not wrong:
        return float("nan")
    ranks = np.asarray(rankdata(np.where(np.isnan(scores), -np.inf, scores)), dtype=np.float64)
    return float((ranks[correct].sum() - right * (right + 1) / 2) / (right * wrong))


def pass_at(size: int, correct: NDArray[np.bool_]) -> float:
    """Return the probability that `size` randomly drawn candidates contain a right one (pass@k, unbiased).

    Args:
        size: Number of candidates that are drawn, without replacement.
        correct: Bool [candidates], whether each is right.

    Raises:
        ValueError: There are fewer candidates than are drawn, or none is drawn.
    """
    right, n = int(correct.sum()), len(correct)
    if not 0 < size <= n:
        msg = f"size={size} must be from 1 to the {n} candidates"
        raise ValueError(msg)
    return 1.0 - math.comb(n - right, size) / math.comb(n, size)


def residual_on_length(values: NDArray[np.floating], tokens: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the residual of each score from a least-squares line on the candidates' lengths within one problem.

    With fewer than three finite scores, or if all candidates have the same length, the deviation from the mean is
    returned. NaN stays NaN. Residuals are rounded, so that scores that length explains completely are equal.

    Args:
        values: [N], one score per candidate.
        tokens: [N], the candidates' numbers of tokens.
    """
    left = np.full(len(values), np.nan)
    known = np.isfinite(values)
    if not known.any():
        return left
    y, x = values[known].astype(np.float64), tokens[known].astype(np.float64)
    x, y = x - x.mean(), y - y.mean()
    unit = _ROUNDING * np.abs(y).max()
    if known.sum() >= 3 and (x @ x) > 0:
        y = y - x * (x @ y) / (x @ x)
    # scores that differ by rounding errors only must tie, such as the residuals of length itself
    y = np.round(y / unit) * unit if unit > np.finfo(np.float64).tiny else np.zeros_like(y)
    left[known] = y
    return left


def correlation(
    xs: Sequence[NDArray[np.floating]],
    ys: Sequence[NDArray[np.floating]],
    *,
    ranks: bool,
    within: bool = False,
    draws: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Estimate Pearson's or Spearman's correlation of pooled points, with an interval from resampling problems.

    Ranks and means are those of the whole sample in every resample.

    Args:
        xs: First coordinates of each problem's points.
        ys: Second coordinates of each problem's points.
        ranks: Correlate ranks among all points, which gives Spearman's correlation.
        within: Subtract each problem's mean first, which leaves the differences between the candidates of a problem.
        draws: Number of resamples.
        seed: Seed of the resamples.
    """
    sizes = np.array([len(x) for x in xs])
    if sizes.sum() < 3:
        return Estimate(np.nan, np.nan, np.nan, 0)
    problem = np.repeat(np.arange(len(sizes)), sizes)

    def per_problem(values: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.bincount(problem, weights=values, minlength=len(sizes)).astype(np.float64)

    def prepared(parts: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
        values = np.concatenate(list(parts)).astype(np.float64)
        if within:
            values = values - (per_problem(values) / np.maximum(sizes, 1))[problem]
        values = np.asarray(rankdata(values), dtype=np.float64) if ranks else values
        # centered, because differences of large moments would lose digits
        return np.asarray(values - values.mean(), dtype=np.float64)

    x, y = prepared(xs), prepared(ys)
    # moments per problem, so that a resample is a weighted sum
    moments = np.stack([per_problem(v) for v in (np.ones_like(x), x, y, x * x, y * y, x * y)])
    drawn = _pearson(moments @ Resampling(len(sizes), draws=draws, seed=seed).weights.T)
    value = float(_pearson(moments.sum(axis=1, keepdims=True))[0])
    if np.isnan(value) or np.isnan(drawn).all():
        return Estimate(np.nan, np.nan, np.nan, 0)
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Estimate(value, float(low), float(high), int((sizes > 0).sum()))


def _pearson(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    n, x, y, xx, yy, xy = moments
    with np.errstate(invalid="ignore", divide="ignore"):
        result: NDArray[np.float64] = (n * xy - x * y) / np.sqrt((n * xx - x * x) * (n * yy - y * y))
    return np.asarray(np.where(np.isfinite(result), result, np.nan))
