"""Choose on one half of the problems and report on the other, so that a choice is not judged on its own data."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nad_agents.evaluation.measures import ProblemMeasures
from nad_agents.evaluation.plan import Plan
from nad_agents.evaluation.statistics import Estimate, Resampling
from nad_agents.evaluation.sweeps import ORACLE, SweepResult, sweep_results
from nad_agents.evaluation.variants import EVERYTHING

__all__ = ["HeldOut", "RepeatedSplits", "choose_on_half", "repeat_splits", "split_half"]

_TOLERANCE = 0.01
"""Accuracy that the choice with the fewest tokens may lose."""


@dataclass(frozen=True)
class HeldOut:
    """A choice made on one half of the problems, and its worth on the other.

    Attributes:
        question: The setting that was chosen.
        choice: The winner on the first half.
        chosen_on: Number of problems in the first half.
        accuracy: Accuracy on the other half.
        gain: Gain over Avg@N there, paired.
        tokens: Mean tokens generated per problem there; NaN if the choice does not change them.
    """

    question: str
    choice: str
    chosen_on: int
    accuracy: Estimate
    gain: Estimate
    tokens: float = np.nan


@dataclass(frozen=True)
class RepeatedSplits:
    """The same choice over many random halves.

    Attributes:
        gain: Mean gain over Avg@N on the other half.
        expected: Mean gain that the choice had on its own half.
        choices: The most frequent choices, each with its share, the most frequent first.
        halvings: Number of halves.
    """

    gain: float
    expected: float
    choices: tuple[tuple[str, float], ...]
    halvings: int


def split_half(problems: Sequence[str], seed: int) -> NDArray[np.bool_]:
    """Return which problems a choice is made on, bool [problems]: a random half by seed and problem ids.

    Args:
        problems: Ids of the problems.
        seed: Seed of the random half.
    """
    order = sorted(range(len(problems)), key=lambda i: hashlib.sha256(f"half\0{seed}\0{problems[i]}".encode()).digest())
    half = np.zeros(len(problems), dtype=bool)
    half[order[: len(problems) // 2]] = True
    return half


def choose_on_half(measures: Sequence[ProblemMeasures], plan: Plan, *, seed: int = 0) -> list[HeldOut]:
    """Choose selector, neurons per token, position, neighbors, weights and budget on one half of the problems.

    Among equally good choices the first one wins: the plainer selector, or the fewer neurons or tokens.

    Args:
        measures: The measures of all problems.
        plan: The plan that was measured.
        seed: Seed of the half.

    Returns:
        One entry per question; empty with fewer than four problems.
    """
    if len(measures) < 4:
        return []
    half = split_half([m.problem for m in measures], seed)
    average = np.array([m.correct.mean() for m in measures])
    sample = Resampling(len(measures))

    def held_out(question: str, choices: Sequence[tuple[str, NDArray[np.float64]]], best: int) -> HeldOut:
        label, right = choices[best]
        there = np.where(half, np.nan, right)
        return HeldOut(question, label, int(half.sum()), sample.mean(there), sample.mean(there - average))

    found = []
    rights = correct_picks(measures, plan)
    for question, executed in (("selector", False), ("selector, with a sandbox", True)):
        choices = [
            (variant.label, right)
            for variant, right in zip(plan.standard, rights, strict=True)
            if executed or variant.family != "execution"
        ]
        if executed and len(choices) == sum(v.family != "execution" for v in plan.standard):
            continue
        found.append(held_out(question, choices, _best(choices, half)))
    swept = sweep_results(measures, plan)
    for question, sweep, label in (
        ("neurons per token of knn", "width", "knn"),
        ("tokens seen by knn", "position", "knn"),
        ("neighbours of knn", "neighbours", "knn"),
        ("weights of nad_fusion, agreement:sparsity:confidence", "weights", "nad_fusion"),
    ):
        choices = [
            ("all" if o.setting == EVERYTHING else str(o.setting), o.right)
            for o in swept
            if o.sweep == sweep and o.label == label
        ]
        if choices:
            found.append(held_out(question, choices, _best(choices, half)))
    cheapest = _cheapest(swept, half)
    if cheapest is not None:
        name = f"{cheapest.label}, {cheapest.sweep} {'all' if cheapest.setting == EVERYTHING else cheapest.setting}"
        result = held_out("fewest tokens within 1 point of the best", [(name, cheapest.right)], 0)
        found.append(replace(result, tokens=float(cheapest.tokens[~half].mean())))
    return found


def _best(choices: Sequence[tuple[str, NDArray[np.float64]]], half: NDArray[np.bool_]) -> int:
    # rounded, so that equal means tie whatever the order of summation
    return int(np.argmax([round(float(right[half].mean()), 9) for _, right in choices]))


def _cheapest(swept: Sequence[SweepResult], half: NDArray[np.bool_]) -> SweepResult | None:
    known = [o for o in swept if o.sweep in ("position", "candidates") and o.label != ORACLE]
    if not known:
        return None
    best = max(float(o.right[half].mean()) for o in known)
    enough = [o for o in known if o.right[half].mean() >= best - _TOLERANCE]
    return min(enough, key=lambda o: float(o.tokens[half].mean()))


def correct_picks(measures: Sequence[ProblemMeasures], plan: Plan) -> NDArray[np.float64]:
    """Return whether each standard variant's pick is right, float64 [variants, problems]."""
    return np.array(
        [[m.correct[m.rankings[index, 0]] for m in measures] for index in range(len(plan.standard))], dtype=np.float64
    )


def repeat_splits(
    measures: Sequence[ProblemMeasures], plan: Plan, *, halvings: int = 1000, seed: int = 0
) -> RepeatedSplits | None:
    """Choose the selector on many random halves, to see how much of its gain survives and how stable the choice is.

    Selectors that run code are left out.

    Args:
        measures: The measures of all problems.
        plan: The plan that was measured.
        halvings: Number of random halves.
        seed: Seed of the halves.

    Returns:
        The means over all halves; None with fewer than four problems, or if every selector's picks are as good.
    """
    n = len(measures)
    if n < 4:
        return None
    indices = [index for index, variant in enumerate(plan.standard) if variant.family != "execution"]
    average = np.array([m.correct.mean() for m in measures])
    gains = correct_picks(measures, plan)[indices] - average
    if not np.ptp(gains, axis=0).any():
        return None
    rng = np.random.default_rng(seed)
    chosen: Counter[str] = Counter()
    own, other = 0.0, 0.0
    for _ in range(halvings):
        half = np.zeros(n, dtype=bool)
        half[rng.permutation(n)[: n // 2]] = True
        best = int(np.argmax(np.round(gains[:, half].mean(axis=1), 9)))
        chosen[plan.standard[indices[best]].label] += 1
        own += float(gains[best, half].mean())
        other += float(gains[best, ~half].mean())
    shares = tuple((label, count / halvings) for label, count in chosen.most_common(5))
    return RepeatedSplits(other / halvings, own / halvings, shares, halvings)
