"""Choosing on one half of the problems and reporting on the other, so that a choice is not judged by its own luck."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nad_agents.evaluation.measures import Plan, ProblemMeasures
from nad_agents.evaluation.statistics import Estimate, Resampling
from nad_agents.evaluation.sweeps import ORACLE, Option, options

__all__ = ["Halvings", "HeldOut", "chosen_on_half", "first_half", "many_halvings"]

_TOLERANCE = 0.01


@dataclass(frozen=True)
class HeldOut:
    """A choice made on one half, and what it is worth on the other.

    Attributes:
        question: what was chosen.
        choice: what won on the first half.
        chosen_on: problems of the first half.
        accuracy: on the other half.
        gain: over Avg@N there, paired.
        tokens: mean tokens generated per problem there; NaN where the choice does not change them.
    """

    question: str
    choice: str
    chosen_on: int
    accuracy: Estimate
    gain: Estimate
    tokens: float = np.nan


@dataclass(frozen=True)
class Halvings:
    """The same choice over many random halves.

    Attributes:
        gain: mean gain over Avg@N on the other half.
        expected: mean gain that the choice had on its own half.
        choices: how often each variant was chosen, as shares, the most frequent first.
        halvings: number of halves.
    """

    gain: float
    expected: float
    choices: tuple[tuple[str, float], ...]
    halvings: int


def first_half(problems: Sequence[str], seed: int) -> NDArray[np.bool_]:
    """Which problems a choice is made on, bool [problems]: half of them, at random by seed and id."""
    order = sorted(range(len(problems)), key=lambda i: hashlib.sha256(f"half\0{seed}\0{problems[i]}".encode()).digest())
    half = np.zeros(len(problems), dtype=bool)
    half[order[: len(problems) // 2]] = True
    return half


def chosen_on_half(measures: Sequence[ProblemMeasures], plan: Plan, *, seed: int = 0) -> list[HeldOut]:
    """Choose selector, neurons per token, position, neighbours, weights and budget on one half of the problems.

    Among equal choices the first wins: the plainer selector, the fewer neurons or tokens.

    Returns:
        One entry per question; none with fewer than four problems.
    """
    if len(measures) < 4:
        return []
    half = first_half([m.problem for m in measures], seed)
    average = np.array([m.correct.mean() for m in measures])
    sample = Resampling(len(measures))

    def held_out(question: str, choices: Sequence[tuple[str, NDArray[np.float64]]], best: int) -> HeldOut:
        label, right = choices[best]
        there = np.where(half, np.nan, right)
        return HeldOut(question, label, int(half.sum()), sample.mean(there), sample.mean(there - average))

    found = []
    rights = standard_rights(measures, plan)
    for question, executed in (("selector", False), ("selector, with a sandbox", True)):
        choices = [
            (variant.label, right)
            for variant, right in zip(plan.standard, rights, strict=True)
            if executed or variant.family != "execution"
        ]
        if executed and len(choices) == sum(v.family != "execution" for v in plan.standard):
            continue
        found.append(held_out(question, choices, _best(choices, half)))
    swept = options(measures, plan)
    for question, sweep, label in (
        ("neurons per token of knn", "width", "knn"),
        ("tokens seen by knn", "position", "knn"),
        ("neighbours of knn", "neighbours", "knn"),
        ("weights of nad_fusion, agreement:sparsity:confidence", "weights", "nad_fusion"),
    ):
        choices = [
            ("all" if o.setting == -1 else str(o.setting), o.right)
            for o in swept
            if o.sweep == sweep and o.label == label
        ]
        if choices:
            found.append(held_out(question, choices, _best(choices, half)))
    cheapest = _cheapest(swept, half)
    if cheapest is not None:
        name = f"{cheapest.label}, {cheapest.sweep} {'all' if cheapest.setting == -1 else cheapest.setting}"
        told = held_out("fewest tokens within 1 point of the best", [(name, cheapest.right)], 0)
        found.append(
            HeldOut(told.question, name, told.chosen_on, told.accuracy, told.gain, float(cheapest.tokens[~half].mean()))
        )
    return found


def _best(choices: Sequence[tuple[str, NDArray[np.float64]]], half: NDArray[np.bool_]) -> int:
    # rounded, so that equal means tie whatever the order of their sums
    return int(np.argmax([round(float(right[half].mean()), 9) for _, right in choices]))


def _cheapest(swept: Sequence[Option], half: NDArray[np.bool_]) -> Option | None:
    known = [o for o in swept if o.sweep in ("position", "candidates") and o.label != ORACLE]
    if not known:
        return None
    best = max(float(o.right[half].mean()) for o in known)
    enough = [o for o in known if o.right[half].mean() >= best - _TOLERANCE]
    return min(enough, key=lambda o: float(o.tokens[half].mean()))


def standard_rights(measures: Sequence[ProblemMeasures], plan: Plan) -> NDArray[np.float64]:
    """Whether each standard variant's pick is right, float64 [variants, problems]."""
    return np.array(
        [[m.correct[m.rankings[place, 0]] for m in measures] for place in range(len(plan.standard))], dtype=np.float64
    )


def many_halvings(
    measures: Sequence[ProblemMeasures], plan: Plan, *, halvings: int = 1000, seed: int = 0
) -> Halvings | None:
    """Choose the selector on many random halves; how much of the gain survives, and how settled the choice is.

    Selectors that run code are left out. None with fewer than four problems.
    """
    n = len(measures)
    if n < 4:
        return None
    places = [place for place, variant in enumerate(plan.standard) if variant.family != "execution"]
    average = np.array([m.correct.mean() for m in measures])
    gains = standard_rights(measures, plan)[places] - average
    rng = np.random.default_rng(seed)
    chosen: Counter[str] = Counter()
    own, other = 0.0, 0.0
    for _ in range(halvings):
        half = np.zeros(n, dtype=bool)
        half[rng.permutation(n)[: n // 2]] = True
        best = int(np.argmax(np.round(gains[:, half].mean(axis=1), 9)))
        chosen[plan.standard[places[best]].label] += 1
        own += float(gains[best, half].mean())
        other += float(gains[best, ~half].mean())
    shares = tuple((label, count / halvings) for label, count in chosen.most_common(5))
    return Halvings(other / halvings, own / halvings, shares, halvings)
