"""The figures of a report, from the measures of every problem: all with 95% intervals over problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nad_agents.evaluation.findings import activated_counts, agreement_by_outcome, count_entropy
from nad_agents.evaluation.halves import Halvings, HeldOut, chosen_on_half, many_halvings, standard_rights
from nad_agents.evaluation.measures import Plan, ProblemMeasures
from nad_agents.evaluation.statistics import Estimate, Resampling, auroc, residual_on_length
from nad_agents.evaluation.sweeps import SweepPoint, sweep_points, tokens_needed
from nad_agents.evaluation.variants import Family, Variant

__all__ = ["Difficulty", "Evidence", "SelectorRow", "collect_evidence"]

Difficulty = Literal["hard", "middle", "easy"]
"""Share of a problem's candidates that are correct: below a third, up to two thirds, above; none and all left out."""


@dataclass(frozen=True)
class SelectorRow:
    """One selector over all problems.

    Attributes:
        label: the variant.
        family: what it looks at.
        accuracy: share of problems with a correct pick.
        gain: accuracy minus the mean accuracy of the problem's candidates (Avg@N), paired.
        stands_alone: the gain differs from 0 when all selectors are looked at together.
        auroc: within-problem AUROC of its score; over problems with right and wrong candidates.
        auroc_length_controlled: the same of what is left of the score after length within the problem.
        with_examples: accuracy when the ranking is walked to the first candidate that satisfies the prompt's examples.
        gain_with_examples: that minus what a random candidate that satisfies them has, paired.
        by_difficulty: gain by the problem's difficulty.
        auroc_by_difficulty: AUROC by the problem's difficulty.
        milliseconds: median time of scoring and ranking the candidates of a problem.
        tokens: mean tokens that must be generated per problem.
        saved: share of the tokens of all candidates that need not be.
        pick_tokens: mean tokens of the pick.
    """

    label: str
    family: Family
    accuracy: Estimate
    gain: Estimate
    stands_alone: bool
    auroc: Estimate
    auroc_length_controlled: Estimate
    with_examples: Estimate
    gain_with_examples: Estimate
    by_difficulty: Mapping[Difficulty, Estimate]
    auroc_by_difficulty: Mapping[Difficulty, Estimate]
    milliseconds: float
    tokens: float
    saved: float
    pick_tokens: float


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
        tokens: tokens of all candidates of a problem, mean.
        seconds: seconds of generating them, mean; NaN where not recorded.
        rows: selectors, best first.
        sweeps: positions, widths, neighbours, weights, numbers of candidates.
        held_out: choices made on one half of the problems, and their worth on the other.
        halvings: the choice of the selector over many halves; None with too few problems.
        count_entropy: correlation of neuron count and mean entropy, by unit and kind.
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
    tokens: float
    seconds: float
    rows: tuple[SelectorRow, ...]
    sweeps: tuple[SweepPoint, ...]
    held_out: tuple[HeldOut, ...]
    halvings: Halvings | None
    count_entropy: Mapping[str, Estimate]
    counts: Mapping[str, Estimate]
    agreement: Mapping[str, Estimate]


def collect_evidence(
    measures: Sequence[ProblemMeasures], plan: Plan, *, draws: int = 10_000, half_seed: int = 0
) -> Evidence:
    """Compute every figure.

    Args:
        measures: of all problems, at least one.
        plan: what they were measured with.
        draws: bootstrap resamples.
        half_seed: which half of the problems choices are made on.
    """
    sample = Resampling(len(measures), draws=draws)
    average = np.array([m.correct.mean() for m in measures])
    groups: dict[Difficulty, NDArray[np.bool_]] = {
        "hard": (average > 0) & (average < 1 / 3),
        "middle": (average >= 1 / 3) & (average <= 2 / 3),
        "easy": (average > 2 / 3) & (average < 1),
    }
    by_chance = np.array([_random_with_examples(m) for m in measures])
    apart = sample.simultaneous(standard_rights(measures, plan) - average)
    rows = [
        _row(place, variant, measures, groups, sample, by_chance=by_chance, stands_alone=bool(apart[place]))
        for place, variant in enumerate(plan.standard)
    ]
    return Evidence(
        problems=len(measures),
        candidates=len(measures[0].correct),
        mixed=int(((average > 0) & (average < 1)).sum()),
        average=sample.mean(average),
        oracle=sample.mean((average > 0).astype(np.float64)),
        with_examples_random=sample.mean(by_chance),
        cut=float(np.mean(np.concatenate([m.cut for m in measures]))),
        tokens=float(np.mean([m.tokens.sum() for m in measures])),
        seconds=float(np.mean([m.seconds for m in measures])),
        rows=tuple(sorted(rows, key=lambda row: -row.accuracy.value)),
        sweeps=tuple(sweep_points(measures, plan, sample)),
        held_out=tuple(chosen_on_half(measures, plan, seed=half_seed)),
        halvings=many_halvings(measures, plan),
        count_entropy=count_entropy(measures),
        counts=activated_counts(measures, sample),
        agreement=agreement_by_outcome(measures, sample),
    )


def _row(
    place: int,
    variant: Variant,
    measures: Sequence[ProblemMeasures],
    groups: Mapping[Difficulty, NDArray[np.bool_]],
    sample: Resampling,
    *,
    by_chance: NDArray[np.float64],
    stands_alone: bool,
) -> SelectorRow:
    picks = [int(m.rankings[place, 0]) for m in measures]
    right = np.array([m.correct[pick] for m, pick in zip(measures, picks, strict=True)], dtype=np.float64)
    gain = right - np.array([m.correct.mean() for m in measures])
    checked = np.array([m.correct[_walk(m, m.rankings[place])] for m in measures], dtype=np.float64)
    areas = np.array([auroc(m.scores[place], m.correct) for m in measures])
    left = [residual_on_length(m.scores[place], m.tokens) for m in measures]
    tokens = np.array([tokens_needed(variant, m, pick) for m, pick in zip(measures, picks, strict=True)])
    everything = sum(int(m.tokens.sum()) for m in measures)
    return SelectorRow(
        label=variant.label,
        family=variant.family,
        accuracy=sample.mean(right),
        gain=sample.mean(gain),
        stands_alone=stands_alone,
        auroc=sample.mean(areas),
        auroc_length_controlled=sample.mean(
            np.array([auroc(values, m.correct) for values, m in zip(left, measures, strict=True)])
        ),
        with_examples=sample.mean(checked),
        gain_with_examples=sample.mean(checked - by_chance),
        by_difficulty={name: sample.mean(np.where(member, gain, np.nan)) for name, member in groups.items()},
        auroc_by_difficulty={name: sample.mean(np.where(member, areas, np.nan)) for name, member in groups.items()},
        milliseconds=float(np.median([m.milliseconds[place] for m in measures])),
        tokens=float(tokens.mean()),
        saved=1 - float(tokens.sum()) / everything if everything else 0.0,
        pick_tokens=float(np.mean([m.tokens[pick] for m, pick in zip(measures, picks, strict=True)])),
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
