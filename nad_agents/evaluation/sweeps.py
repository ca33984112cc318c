"""Sweeps vary one thing at a time: tokens seen, neurons per token, neighbors, weights, or number of candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nad_agents.evaluation.measures import ProblemMeasures
from nad_agents.evaluation.plan import Plan
from nad_agents.evaluation.statistics import Estimate, Resampling, pass_at
from nad_agents.evaluation.variants import EVERYTHING, SweepName, Variant

__all__ = ["SweepPoint", "SweepResult", "frontier", "sweep_points", "sweep_results", "tokens_needed", "tokens_spent"]

ORACLE = "oracle (pass@k)"
"""Label of the oracle among the selectors of a sweep."""


@dataclass(frozen=True)
class SweepResult:
    """One selector at one setting of a sweep, with its result on every problem.

    Attributes:
        sweep: Name of the setting that varies.
        setting: Its value; `EVERYTHING` where nothing is left out.
        label: The selector.
        right: Float64 [problems], share of correct picks.
        tokens: Float64 [problems], tokens generated, including those that complete the pick.
    """

    sweep: SweepName | Literal["candidates"]
    setting: int | str
    label: str
    right: NDArray[np.float64]
    tokens: NDArray[np.float64]


@dataclass(frozen=True)
class SweepPoint:
    """One selector at one setting of a sweep, summarized over the problems.

    Attributes:
        sweep: Name of the setting that varies.
        setting: Its value; `EVERYTHING` where nothing is left out.
        label: The selector.
        accuracy: Share of correct picks.
        gain: Gain over Avg@N, paired.
        tokens: Mean tokens generated per problem, including those that complete the pick.
        saved: Share of the tokens of all candidates that need not be generated.
    """

    sweep: SweepName | Literal["candidates"]
    setting: int | str
    label: str
    accuracy: Estimate
    gain: Estimate
    tokens: float
    saved: float


def tokens_spent(tokens: NDArray[np.int64], pick: int, limit: int | None) -> int:
    """Return the tokens generated if all candidates but the pick are dropped after `limit` tokens.

    Args:
        tokens: Int64 [N], the candidates' numbers of tokens.
        pick: Index of the pick.
        limit: Tokens of each candidate before the choice; None generates all candidates completely.
    """
    if limit is None:
        return int(tokens.sum())
    started = np.minimum(tokens, limit)
    return int(started.sum() + tokens[pick] - started[pick])


def tokens_needed(variant: Variant, m: ProblemMeasures, pick: int) -> int:
    """Return the tokens that must be generated for a variant to choose its pick and return it complete.

    Args:
        variant: The selector and its settings.
        m: What was measured on the problem.
        pick: Index of the candidate that the variant chooses.
    """
    tokens, limit = m.tokens, variant.comparison.token_limit
    if variant.checked:
        return int(tokens.sum())
    if variant.selector == "first":
        return int(tokens[pick])
    if variant.selector == "shortest" or variant.comparison.common_prefix:
        # others are looked at only as far as the first candidate that ended
        return tokens_spent(tokens, pick, int(tokens[tokens > 0].min(initial=tokens.max(initial=0))))
    return tokens_spent(tokens, pick, limit + m.shared if limit is not None and variant.skip_shared else limit)


def sweep_results(measures: Sequence[ProblemMeasures], plan: Plan) -> list[SweepResult]:
    """Compute every setting of every sweep, on every problem.

    Args:
        measures: What was measured on each problem.
        plan: The sweeps with their settings.
    """
    found = []
    for name, sweep in plan.sweeps.items():
        for setting, variants in sweep.items():
            for index, variant in enumerate(variants):
                picks = [int(m.sweeps[name][setting][index, 0]) for m in measures]
                right = np.array([m.correct[pick] for m, pick in zip(measures, picks, strict=True)], dtype=np.float64)
                tokens = [tokens_needed(variant, m, pick) for m, pick in zip(measures, picks, strict=True)]
                found.append(SweepResult(name, setting, variant.label, right, np.array(tokens, dtype=np.float64)))
    mean_tokens = np.array([m.tokens.mean() for m in measures])
    whole = {variant.label: index for index, variant in enumerate(plan.standard)}
    followed = [(index, variant.label) for index, variant in enumerate(plan.followed)]
    for size in plan.sizes:
        for index, label in followed:
            right = np.array([m.subsets[size][index] for m in measures])
            found.append(SweepResult("candidates", size, label, right, size * mean_tokens))
    n = len(measures[0].correct)
    for _, label in followed:
        right = np.array([m.correct[m.rankings[whole[label], 0]] for m in measures], dtype=np.float64)
        found.append(SweepResult("candidates", n, label, right, n * mean_tokens))
    for size in (*plan.sizes, n):
        right = np.array([pass_at(size, m.correct) for m in measures])
        found.append(SweepResult("candidates", size, ORACLE, right, size * mean_tokens))
    return found


def sweep_points(measures: Sequence[ProblemMeasures], plan: Plan, sample: Resampling) -> list[SweepPoint]:
    """Summarize every setting of every sweep, with intervals.

    Args:
        measures: What was measured on each problem.
        plan: The sweeps with their settings.
        sample: Resampling of the problems, for the intervals.
    """
    average = np.array([m.correct.mean() for m in measures])
    everything = float(np.mean([m.tokens.sum() for m in measures]))
    return [
        SweepPoint(
            option.sweep,
            option.setting,
            option.label,
            sample.mean(option.right),
            sample.mean(option.right - average),
            float(option.tokens.mean()),
            1 - float(option.tokens.mean()) / everything if everything else 0.0,
        )
        for option in sweep_results(measures, plan)
    ]


def frontier(points: Sequence[SweepPoint]) -> list[SweepPoint]:
    """Return the settings to which nothing cheaper is at least as accurate, cheapest first, without the oracle."""
    # neighbors and weights cost no tokens, so including them would only reward trying many
    known = [p for p in points if p.sweep in ("position", "candidates") and p.label != ORACLE]
    best: list[SweepPoint] = []
    for point in sorted(known, key=lambda p: (p.tokens, -p.accuracy.value)):
        if not best or point.accuracy.value > best[-1].accuracy.value:
            best.append(point)
    return best


def setting_name(sweep: str, setting: int | str) -> str:
    """Return a setting as text for tables."""
    return "all" if setting == EVERYTHING and sweep == "position" else str(setting)
