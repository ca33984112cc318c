"""Intervals and tests over problems: bootstrap, within-problem AUROC, correlation.

Problems are the unit of resampling throughout, since the candidates of one problem are not independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

__all__ = ["Estimate", "Resampling", "auroc", "correlation", "residual_on_length"]


@dataclass(frozen=True)
class Estimate:
    """A figure with its uncertainty.

    Attributes:
        value: the estimate.
        low: lower end of the 95% interval.
        high: upper end.
        n: problems that it rests on.
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
    """Bootstrap over problems: percentile intervals; every figure sees the same resamples, so differences are paired.

    Args:
        n: number of problems.
        draws: number of resamples.
        seed: of the resamples.
    """

    def __init__(self, n: int, *, draws: int = 10_000, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        counts = rng.multinomial(n, np.full(n, 1 / n), size=draws) if n else np.zeros((draws, 0))
        self.weights: NDArray[np.float64] = counts.astype(np.float64)
        self.n = n

    def mean(self, values: NDArray[np.floating]) -> Estimate:
        """The mean over problems; problems with NaN do not count.

        Args:
            values: [n], one number per problem.
        """
        known = np.isfinite(values)
        if not known.any():
            return Estimate(np.nan, np.nan, np.nan, 0)
        sizes = self.weights @ known
        # a resample without any such problem says nothing
        sums = (self.weights @ np.where(known, values, 0.0))[sizes > 0] / sizes[sizes > 0]
        low, high = np.percentile(sums, [2.5, 97.5])
        return Estimate(float(np.mean(values[known])), float(low), float(high), int(known.sum()))

    def ratio(self, numerators: NDArray[np.floating], denominators: NDArray[np.floating]) -> Estimate:
        """A ratio of sums over problems, [n] each."""
        below = self.weights @ denominators
        drawn = (self.weights @ numerators)[below > 0] / below[below > 0]
        total = denominators.sum()
        if not total or not len(drawn):
            return Estimate(np.nan, np.nan, np.nan, 0)
        low, high = np.percentile(drawn, [2.5, 97.5])
        return Estimate(float(numerators.sum() / total), float(low), float(high), int((denominators > 0).sum()))


def auroc(scores: NDArray[np.floating], correct: NDArray[np.bool_]) -> float:
    """How often a correct candidate scores above an incorrect one, ties counting half.

    NaN counts as the lowest score.

    Returns:
        A number in [0, 1]; NaN when all candidates are right, or all wrong.
    """
    right = int(correct.sum())
    wrong = len(correct) - right
    if not right or not wrong:
        return float("nan")
    ranks = np.asarray(rankdata(np.where(np.isnan(scores), -np.inf, scores)), dtype=np.float64)
    return float((ranks[correct].sum() - right * (right + 1) / 2) / (right * wrong))


def residual_on_length(values: NDArray[np.floating], tokens: NDArray[np.integer]) -> NDArray[np.float64]:
    """What is left of a score after a least-squares line on the candidates' lengths, within one problem.

    With fewer than three finite scores, or all of one length, the deviation from the mean; NaN stays NaN.
    """
    left = np.full(len(values), np.nan)
    known = np.isfinite(values)
    if not known.any():
        return left
    y, x = values[known].astype(np.float64), tokens[known].astype(np.float64)
    x, y = x - x.mean(), y - y.mean()
    if known.sum() >= 3 and (x @ x) > 0:
        y = y - x * (x @ y) / (x @ x)
    left[known] = y
    return left


def correlation(
    xs: Sequence[NDArray[np.floating]],
    ys: Sequence[NDArray[np.floating]],
    *,
    ranks: bool,
    draws: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Pearson's correlation, or Spearman's, of pooled points; the interval resamples problems.

    Args:
        xs: per problem its points' first coordinate.
        ys: the second.
        ranks: Spearman's: correlate the ranks among all points.
        draws: number of resamples.
        seed: of the resamples.
    """
    sizes = np.array([len(x) for x in xs])
    if sizes.sum() < 3:
        return Estimate(np.nan, np.nan, np.nan, 0)
    x, y = np.concatenate(list(xs)).astype(np.float64), np.concatenate(list(ys)).astype(np.float64)
    if ranks:
        x, y = np.asarray(rankdata(x), dtype=np.float64), np.asarray(rankdata(y), dtype=np.float64)
    problem = np.repeat(np.arange(len(sizes)), sizes)
    # moments per problem, so that a resample is a weighted sum
    moments = np.stack(
        [np.bincount(problem, weights=v, minlength=len(sizes)) for v in (np.ones_like(x), x, y, x * x, y * y, x * y)]
    )
    drawn = _pearson(moments @ Resampling(len(sizes), draws=draws, seed=seed).weights.T)
    value = _pearson(moments.sum(axis=1, keepdims=True))[0]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Estimate(float(value), float(low), float(high), len(sizes))


def _pearson(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    n, x, y, xx, yy, xy = moments
    with np.errstate(invalid="ignore", divide="ignore"):
        result: NDArray[np.float64] = (n * xy - x * y) / np.sqrt((n * xx - x * x) * (n * yy - y * y))
    return result
