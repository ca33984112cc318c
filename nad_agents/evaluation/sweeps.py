"""One thing varied at a time: tokens seen, neurons per token, neighbours, weights, number of candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nad_agents.evaluation.measures import Plan, ProblemMeasures
from nad_agents.evaluation.statistics import Estimate, Resampling, pass_at
from nad_agents.evaluation.variants import EVERYTHING, SWEPT, SweepName, Variant

__all__ = ["Option", "SweepPoint", "frontier", "options", "sweep_points", "tokens_needed", "tokens_spent"]

ORACLE = "oracle (pass@k)"


@dataclass(frozen=True)
class Option:
    """A way to select, and what it gave on every problem.

    Attributes:
        sweep: what varies.
        setting: its value; -1 for everything.
        label: the selector.
        right: float64 [problems], share of correct picks.
        tokens: float64 [problems], tokens generated, the finishing of the pick included.
    """

    sweep: SweepName | Literal["candidates"]
    setting: int | str
    label: str
    right: NDArray[np.float64]
    tokens: NDArray[np.float64]


@dataclass(frozen=True)
class SweepPoint:
    """A selector at one setting of a sweep.

    Attributes:
        sweep: what varies.
        setting: its value; -1 for everything.
        label: the selector.
        accuracy: with its interval.
        gain: over Avg@N, paired.
        tokens: mean tokens generated per problem, the finishing of the pick included.
        saved: share of the tokens of all candidates that this leaves ungenerated.
    """

    sweep: SweepName | Literal["candidates"]
    setting: int | str
    label: str
    accuracy: Estimate
    gain: Estimate
    tokens: float
    saved: float


def tokens_spent(tokens: NDArray[np.int64], pick: int, limit: int | None) -> int:
    """Tokens generated when all but the pick are dropped after `limit` tokens; all of them without a limit."""
    if limit is None:
        return int(tokens.sum())
    started = np.minimum(tokens, limit)
    return int(started.sum() + tokens[pick] - started[pick])


def tokens_needed(variant: Variant, m: ProblemMeasures, pick: int) -> int:
    """Tokens that must be generated for a variant to choose its pick and return it whole."""
    tokens, limit = m.tokens, variant.comparison.token_limit
    if variant.checked:
        return int(tokens.sum())
    if variant.selector == "first":
        return int(tokens[pick])
    if variant.selector == "shortest" or variant.comparison.common_prefix:
        # the first candidate to end tells how far the others are looked at
        return tokens_spent(tokens, pick, int(tokens[tokens > 0].min(initial=tokens.max(initial=0))))
    return tokens_spent(tokens, pick, limit + m.shared if limit is not None and variant.skip_shared else limit)


def options(measures: Sequence[ProblemMeasures], plan: Plan) -> list[Option]:
    """Every setting of every sweep, on every problem."""
    found = []
    for name, sweep in plan.sweeps.items():
        for setting, variants in sweep.items():
            for place, variant in enumerate(variants):
                picks = [int(m.sweeps[name][setting][place, 0]) for m in measures]
                right = np.array([m.correct[pick] for m, pick in zip(measures, picks, strict=True)], dtype=np.float64)
                tokens = [tokens_needed(variant, m, pick) for m, pick in zip(measures, picks, strict=True)]
                found.append(Option(name, setting, variant.label, right, np.array(tokens, dtype=np.float64)))
    mean_tokens = np.array([m.tokens.mean() for m in measures])
    whole = {variant.label: place for place, variant in enumerate(plan.standard)}
    followed = [(place, label) for place, label in enumerate(SWEPT) if label in whole]
    for size in plan.sizes:
        for place, label in followed:
            right = np.array([m.subsets[size][place] for m in measures])
            found.append(Option("candidates", size, label, right, size * mean_tokens))
    n = len(measures[0].correct)
    for _, label in followed:
        right = np.array([m.correct[m.rankings[whole[label], 0]] for m in measures], dtype=np.float64)
        found.append(Option("candidates", n, label, right, n * mean_tokens))
    for size in (*plan.sizes, n):
        right = np.array([pass_at(size, m.correct) for m in measures])
        found.append(Option("candidates", size, ORACLE, right, size * mean_tokens))
    return found


def sweep_points(measures: Sequence[ProblemMeasures], plan: Plan, sample: Resampling) -> list[SweepPoint]:
    """Every setting of every sweep, with intervals."""
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
        for option in options(measures, plan)
    ]


def frontier(points: Sequence[SweepPoint]) -> list[SweepPoint]:
    """The settings than which nothing is both cheaper and at least as accurate, cheapest first; no oracle."""
    # neighbours and weights cost no tokens, so that comparing them would only reward trying many
    known = [p for p in points if p.sweep in ("position", "candidates") and p.label != ORACLE]
    best: list[SweepPoint] = []
    for point in sorted(known, key=lambda p: (p.tokens, -p.accuracy.value)):
        if not best or point.accuracy.value > best[-1].accuracy.value:
            best.append(point)
    return best


def setting_name(sweep: str, setting: int | str) -> str:
    """A setting for people."""
    return "all" if setting == EVERYTHING and sweep == "position" else str(setting)
