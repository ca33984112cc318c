"""The figures of a report, from the measures of every problem: all with 95% intervals over problems."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nad_agents.evaluation.measures import Plan, ProblemMeasures
from nad_agents.evaluation.statistics import Estimate, Resampling, auroc, correlation, residual_on_length
from nad_agents.evaluation.variants import Family, Variant

__all__ = ["Difficulty", "Evidence", "SelectorRow", "SweepPoint", "chosen_on_half", "collect_evidence"]

Difficulty = Literal["hard", "middle", "easy"]
"""Share of a problem's candidates that are correct: below a third, up to two thirds, above."""


@dataclass(frozen=True)
class SelectorRow:
    """One selector over all problems.

    Attributes:
        label: the variant.
        family: what it looks at.
        accuracy: share of problems with a correct pick.
        gain: accuracy minus the mean accuracy of the problem's candidates (Avg@N), paired.
        auroc: within-problem AUROC of its score; over problems with right and wrong candidates.
        auroc_length_controlled: the same of what is left of the score after length within the problem.
        with_examples: accuracy when the ranking is walked to the first candidate that satisfies the prompt's examples.
        by_difficulty: gain by the problem's difficulty.
        pick_tokens: mean tokens of the pick.
    """

    label: str
    family: Family
    accuracy: Estimate
    gain: Estimate
    auroc: Estimate
    auroc_length_controlled: Estimate
    with_examples: Estimate
    by_difficulty: Mapping[Difficulty, Estimate]
    pick_tokens: float


@dataclass(frozen=True)
class SweepPoint:
    """A selector at one setting of a sweep.

    Attributes:
        sweep: what varies: tokens seen, neurons per token, or candidates.
        setting: its value; -1 for everything.
        label: the selector.
        accuracy: with its interval.
        gain: over Avg@N, paired.
        tokens: mean tokens generated per problem, the finishing of the pick included.
    """

    sweep: Literal["position", "width", "candidates"]
    setting: int
    label: str
    accuracy: Estimate
    gain: Estimate
    tokens: float


@dataclass(frozen=True)
class Evidence:
    """Everything that a report shows.

    Attributes:
        problems: number of scored problems.
        candidates: per problem.
        mixed: problems with right and wrong candidates; only these tell selectors apart.
        average: Avg@N, the expectation of a random pick.
        oracle: pass@N, whether any candidate is right.
        with_examples_random: a random candidate among those that satisfy the prompt's examples.
        cut: share of candidates that the token limit cut.
        rows: selectors, best first.
        sweeps: positions, widths, numbers of candidates.
        count_entropy: correlation of neuron count and mean entropy, by unit ("chunk" or "candidate") and kind.
        counts: mean neurons of right and of wrong candidates and their difference within problems.
        agreement: mean similarity right-right, right-wrong, wrong-wrong within problems.
    """

    problems: int
    candidates: int
    mixed: int
    average: Estimate
    oracle: Estimate
    with_examples_random: Estimate
    cut: float
    rows: tuple[SelectorRow, ...]
    sweeps: tuple[SweepPoint, ...]
    count_entropy: Mapping[str, Estimate]
    counts: Mapping[str, Estimate]
    agreement: Mapping[str, Estimate]


def collect_evidence(measures: Sequence[ProblemMeasures], plan: Plan, *, draws: int = 10_000) -> Evidence:
    """Compute every figure.

    Args:
        measures: of all problems, at least one.
        plan: what they were measured with.
        draws: bootstrap resamples.
    """
    sample = Resampling(len(measures), draws=draws)
    average = np.array([m.correct.mean() for m in measures])
    groups: dict[Difficulty, NDArray[np.bool_]] = {
        "hard": average < 1 / 3,
        "middle": (average >= 1 / 3) & (average <= 2 / 3),
        "easy": average > 2 / 3,
    }
    rows = [_row(place, variant, measures, average, groups, sample) for place, variant in enumerate(plan.standard)]
    return Evidence(
        problems=len(measures),
        candidates=len(measures[0].correct),
        mixed=int(((average > 0) & (average < 1)).sum()),
        average=sample.mean(average),
        oracle=sample.mean((average > 0).astype(np.float64)),
        with_examples_random=sample.mean(np.array([_random_with_examples(m) for m in measures])),
        cut=float(np.mean(np.concatenate([m.cut for m in measures]))),
        rows=tuple(sorted(rows, key=lambda row: -row.accuracy.value)),
        sweeps=tuple(_sweeps(measures, plan, average, sample)),
        count_entropy=_count_entropy(measures),
        counts=_counts(measures, sample),
        agreement=_agreement(measures, sample),
    )


def picks_correct(measures: Sequence[ProblemMeasures], place: int) -> NDArray[np.float64]:
    """Whether a variant's pick is right, per problem."""
    return np.array([m.correct[m.rankings[place, 0]] for m in measures], dtype=np.float64)


def _row(
    place: int,
    variant: Variant,
    measures: Sequence[ProblemMeasures],
    average: NDArray[np.float64],
    groups: Mapping[Difficulty, NDArray[np.bool_]],
    sample: Resampling,
) -> SelectorRow:
    right = picks_correct(measures, place)
    gain = right - average
    return SelectorRow(
        label=variant.label,
        family=variant.family,
        accuracy=sample.mean(right),
        gain=sample.mean(gain),
        auroc=sample.mean(np.array([auroc(m.scores[place], m.correct) for m in measures])),
        auroc_length_controlled=sample.mean(
            np.array([auroc(residual_on_length(m.scores[place], m.tokens), m.correct) for m in measures])
        ),
        with_examples=sample.mean(np.array([m.correct[_walk(m, m.rankings[place])] for m in measures], dtype=float)),
        by_difficulty={name: sample.mean(np.where(member, gain, np.nan)) for name, member in groups.items()},
        pick_tokens=float(np.mean([m.tokens[m.rankings[place, 0]] for m in measures])),
    )


def _walk(measures: ProblemMeasures, ranking: NDArray[np.int64]) -> int:
    """The first in rank that satisfies the examples; the first of all where none does or there are none."""
    if measures.examples is not None:
        for candidate in ranking:
            if measures.examples[candidate]:
                return int(candidate)
    return int(ranking[0])


def _random_with_examples(measures: ProblemMeasures) -> float:
    among = measures.correct
    if measures.examples is not None and measures.examples.any():
        among = among[measures.examples]
    return float(among.mean())


def _sweeps(
    measures: Sequence[ProblemMeasures], plan: Plan, average: NDArray[np.float64], sample: Resampling
) -> list[SweepPoint]:
    whole = {variant.label: place for place, variant in enumerate(plan.standard)}
    points = []

    def add(
        sweep: Literal["position", "width", "candidates"],
        setting: int,
        label: str,
        right: NDArray[np.float64],
        tokens: float,
    ) -> None:
        points.append(SweepPoint(sweep, setting, label, sample.mean(right), sample.mean(right - average), tokens))

    def rankings_at(
        setting: int, kind: Literal["position", "width"], place: int, label: str
    ) -> list[NDArray[np.int64]]:
        if setting < 0:
            return [m.rankings[whole[label]] for m in measures]
        return [(m.positions if kind == "position" else m.widths)[setting][place] for m in measures]

    for kind, table in (("position", plan.positions), ("width", plan.widths)):
        if not table:
            continue
        labels = [variant.label for variant in next(iter(table.values()))]
        for setting in (*table, -1):
            for place, label in enumerate(labels):
                sweep: Literal["position", "width"] = "position" if kind == "position" else "width"
                ranked = rankings_at(setting, sweep, place, label)
                right = np.array([m.correct[r[0]] for m, r in zip(measures, ranked, strict=True)], dtype=np.float64)
                limit = setting if kind == "position" and setting > 0 else None
                spent = [tokens_spent(m.tokens, int(r[0]), limit) for m, r in zip(measures, ranked, strict=True)]
                add(sweep, setting, label, right, float(np.mean(spent)))
    names = ("knn", "medoid", "min_act", "mean_logprob", "deepconf", "nad_fusion")
    mean_tokens = float(np.mean([m.tokens.mean() for m in measures]))
    for size in plan.sizes:
        for place, label in enumerate(names):
            add("candidates", size, label, np.array([m.subsets[size][place] for m in measures]), size * mean_tokens)
    for label in names:
        n = len(measures[0].correct)
        add("candidates", n, label, picks_correct(measures, whole[label]), n * mean_tokens)
    return points


def tokens_spent(tokens: NDArray[np.int64], pick: int, limit: int | None) -> int:
    """Tokens generated when all but the pick are dropped after `limit` tokens; all of them without a limit."""
    if limit is None:
        return int(tokens.sum())
    started = np.minimum(tokens, limit)
    return int(started.sum() + tokens[pick] - started[pick])


def _count_entropy(measures: Sequence[ProblemMeasures]) -> dict[str, Estimate]:
    found = {}
    chunks = [m.chunk_points for m in measures]
    units = {
        "chunk": ([c[:, 0] for c in chunks], [c[:, 1] for c in chunks]),
        "candidate": (
            [m.counts[m.tokens > 0].astype(np.float64) for m in measures],
            [m.entropies[m.tokens > 0] for m in measures],
        ),
    }
    for unit, (xs, ys) in units.items():
        found[f"{unit}, Pearson"] = correlation(xs, ys, ranks=False)
        found[f"{unit}, Spearman"] = correlation(xs, ys, ranks=True)
    return found


def _counts(measures: Sequence[ProblemMeasures], sample: Resampling) -> dict[str, Estimate]:
    def per_problem(value: NDArray[np.float64], m: ProblemMeasures, right: bool) -> float:
        chosen = value[m.correct if right else ~m.correct]
        return float(np.nanmean(chosen)) if len(chosen) and np.isfinite(chosen).any() else np.nan

    found = {}
    for name, controlled in (("neurons", False), ("neurons at equal length", True)):
        sides = {}
        for side, right in (("right", True), ("wrong", False)):
            values = []
            for m in measures:
                counts = m.counts.astype(np.float64)
                counts[m.tokens == 0] = np.nan
                # only problems that have both: others differ in more than being right
                both = m.correct.any() and not m.correct.all()
                counts = residual_on_length(counts, m.tokens) if controlled else counts
                values.append(per_problem(counts, m, right) if both else np.nan)
            sides[side] = np.array(values)
            if not controlled:
                found[f"{name}, {side}"] = sample.mean(sides[side])
        found[f"{name}, right minus wrong"] = sample.mean(sides["right"] - sides["wrong"])
    return found


def _agreement(measures: Sequence[ProblemMeasures], sample: Resampling) -> dict[str, Estimate]:
    names = ("right and right", "right and wrong", "wrong and wrong")
    values: dict[str, list[float]] = {name: [] for name in names}
    for m in measures:
        upper = np.triu(np.ones_like(m.similarity, dtype=bool), 1)
        kind = m.correct[:, None].astype(int) + m.correct[None, :]
        mixed = m.correct.any() and not m.correct.all()
        for name, total in zip(names, (2, 1, 0), strict=True):
            pairs = m.similarity[upper & (kind == total)]
            values[name].append(float(pairs.mean()) if mixed and len(pairs) else np.nan)
    return {name: sample.mean(np.array(v)) for name, v in values.items()}


def chosen_on_half(
    measures: Sequence[ProblemMeasures], plan: Plan, *, seed: int = 0
) -> tuple[str, Estimate, Estimate, int]:
    """Choose the best variant on one half of the problems and report it on the other.

    Problems are split by a hash of their ids, so that the halves stay the same as a run grows.

    Returns:
        The chosen variant's label, its accuracy on the other half, its gain over Avg@N there, and the number of
        problems that it was chosen on.
    """
    half = np.array([hashlib.sha256(f"{seed}\0{m.problem}".encode()).digest()[0] % 2 == 0 for m in measures])
    average = np.array([m.correct.mean() for m in measures])
    right = np.array([picks_correct(measures, place) for place in range(len(plan.standard))])
    other = Resampling(len(measures))
    if half.all() or not half.any():
        nothing = Estimate(np.nan, np.nan, np.nan, 0)
        return "none: too few problems", nothing, nothing, int(half.sum())
    best = int(np.argmax(right[:, half].mean(axis=1)))
    held_out = np.where(half, np.nan, right[best])
    return plan.standard[best].label, other.mean(held_out), other.mean(held_out - average), int(half.sum())
