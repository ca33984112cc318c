"""Compute the figures of a report from the measures of every problem, with 95% intervals over problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nad_agents.evaluation.findings import activated_counts, agreement_by_outcome, count_entropy
from nad_agents.evaluation.held_out import HeldOut, RepeatedSplits, choose_on_half, correct_picks, repeat_splits
from nad_agents.evaluation.measures import ProblemMeasures
from nad_agents.evaluation.plan import Plan
from nad_agents.evaluation.statistics import Estimate, Resampling, auroc, residual_on_length
from nad_agents.evaluation.sweeps import SweepPoint, sweep_points, tokens_needed
from nad_agents.evaluation.variants import Family, Variant

__all__ = [
    "Difficulty",
    "Evidence",
    "SelectorRow",
    "collect_evidence",
]

Difficulty = Literal["hard", "middle", "easy"]
"""Share of a problem's candidates that are correct: below a third, up to two thirds, or above; 0 and 1 are excluded."""

_CUT_SHARE = 0.5
"""Share of cut candidates above which a report shows a warning."""


@dataclass(frozen=True)
class SelectorRow:
    """The figures of one selector over all problems.

    Attributes:
        label: The variant's name.
        family: Kind of evidence that the selector looks at.
        accuracy: Share of problems whose pick is correct.
        gain: Accuracy minus the mean accuracy of the problem's candidates (Avg@N), paired.
        stands_alone: Whether the gain differs from 0 when all selectors are tested together.
        auroc: Within-problem AUROC of the score, over problems with right and wrong candidates.
        auroc_length_controlled: The same for the residual of the score on length within the problem.
        with_examples: Accuracy of the first candidate in the ranking that satisfies the examples in the prompt.
        gain_with_examples: That accuracy minus the mean accuracy of the candidates that satisfy the examples, paired.
        by_difficulty: Gain by the problem's difficulty.
        auroc_by_difficulty: AUROC by the problem's difficulty.
        milliseconds: Median time of scoring and ranking the candidates of a problem.
        tokens: Mean number of tokens that must be generated per problem.
        saved: Share of the tokens of all candidates that need not be generated.
        pick_tokens: Mean number of tokens of the pick.
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
        problems: Number of scored problems.
        candidates: Number of candidates per problem.
        mixed: Number of problems with right and wrong candidates; only these tell selectors significant.
        average: Avg@N, the expected accuracy of a random pick.
        oracle: pass@N, the share of problems with at least one right candidate.
        with_examples_random: Expected accuracy of a random pick among the candidates that satisfy the prompt's
            examples.
        cut: Share of candidates that the token limit cut.
        tokens: Mean number of tokens of all candidates of a problem.
        seconds: Mean time of generating all candidates of a problem; NaN if it was not recorded.
        rows: The selectors, best first.
        sweeps: Accuracy by position, width, neighbors, weights and number of candidates.
        held_out: Choices made on one half of the problems, and their worth on the other.
        halvings: The choice of the selector over many random halves; None with too few problems.
        count_entropy: Correlation of neuron count and mean entropy, by unit and kind.
        counts: Mean neuron counts of right and of wrong candidates, and their difference within problems.
        agreement: Mean similarity of right and right, right and wrong, wrong and wrong candidates within problems.
        reliability: For each bin of the estimated confidence, its mean, the accuracy of the picks, and the problems.
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
    halvings: RepeatedSplits | None
    count_entropy: Mapping[str, Estimate]
    counts: Mapping[str, Estimate]
    agreement: Mapping[str, Estimate]
    reliability: tuple[tuple[float, Estimate], ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons why the figures say nothing about selectors, in sentences; empty if there are none."""
        found = []
        if not self.mixed:
            why = (
                "no candidate is right"
                if self.oracle.value == 0
                else "every candidate is right"
                if self.average.value == 1
                else "the candidates of each problem are all right or all wrong"
            )
            found.append(f"Nothing tells the selectors apart: {why}.")
        if self.cut > _CUT_SHARE:
            who = "Every candidate was" if self.cut == 1 else f"{100 * self.cut:.0f}% of the candidates were"
            found.append(f"{who} cut at the token limit; record again with a larger --max-new-tokens.")
        return tuple(found)


def collect_evidence(
    measures: Sequence[ProblemMeasures], plan: Plan, *, draws: int = 10_000, half_seed: int = 0
) -> Evidence:
    """Compute every figure of a report.

    Args:
        measures: The measures of all problems, at least one.
        plan: The plan that was measured.
        draws: Number of bootstrap resamples.
        half_seed: Seed of the half of the problems that choices are made on.
    """
    sample = Resampling(len(measures), draws=draws)
    average = np.array([m.correct.mean() for m in measures])
    groups: dict[Difficulty, NDArray[np.bool_]] = {
        "hard": (average > 0) & (average < 1 / 3),
        "middle": (average >= 1 / 3) & (average <= 2 / 3),
        "easy": (average > 2 / 3) & (average < 1),
    }
    random_accuracy = np.array([_random_accuracy_with_examples(m) for m in measures])
    significant = sample.simultaneous(correct_picks(measures, plan) - average)
    rows = [
        _row(
            index,
            variant,
            measures,
            groups,
            sample,
            random_accuracy=random_accuracy,
            stands_alone=bool(significant[index]),
        )
        for index, variant in enumerate(plan.standard)
    ]
    return Evidence(
        problems=len(measures),
        candidates=len(measures[0].correct),
        mixed=int(((average > 0) & (average < 1)).sum()),
        average=sample.mean(average),
        oracle=sample.mean((average > 0).astype(np.float64)),
        with_examples_random=sample.mean(random_accuracy),
        cut=float(np.mean(np.concatenate([m.cut for m in measures]))),
        tokens=float(np.mean([m.tokens.sum() for m in measures])),
        seconds=float(np.mean([m.seconds for m in measures])),
        rows=tuple(sorted(rows, key=lambda row: -row.accuracy.value)),
        sweeps=tuple(sweep_points(measures, plan, sample)),
        held_out=tuple(choose_on_half(measures, plan, seed=half_seed)),
        halvings=repeat_splits(measures, plan),
        count_entropy=count_entropy(measures),
        counts=activated_counts(measures, sample),
        agreement=agreement_by_outcome(measures, sample),
        reliability=_reliability_curve(measures, sample),
    )


def _reliability_curve(measures: Sequence[ProblemMeasures], sample: Resampling) -> tuple[tuple[float, Estimate], ...]:
    """Compare the estimated probability that the pick is right with how often it is, in bins of a fifth.

    Args:
        measures: What was measured on each problem.
        sample: Resampling of the problems, for the intervals.

    Returns:
        For each bin with problems, the mean estimate and the accuracy with its interval.
    """
    confidence = np.array([m.confidence for m in measures])
    right = np.array([m.correct[m.confident_pick] for m in measures], dtype=np.float64)
    bins = np.minimum(np.nan_to_num(confidence, nan=-1) * 5 // 1, 4)
    return tuple(
        (float(confidence[bins == place].mean()), sample.mean(np.where(bins == place, right, np.nan)))
        for place in range(5)
        if (bins == place).any()
    )


def _row(
    index: int,
    variant: Variant,
    measures: Sequence[ProblemMeasures],
    groups: Mapping[Difficulty, NDArray[np.bool_]],
    sample: Resampling,
    *,
    random_accuracy: NDArray[np.float64],
    stands_alone: bool,
) -> SelectorRow:
    picks = [int(m.rankings[index, 0]) for m in measures]
    right = np.array([m.correct[pick] for m, pick in zip(measures, picks, strict=True)], dtype=np.float64)
    gain = right - np.array([m.correct.mean() for m in measures])
    checked = np.array(
        [m.correct[_first_satisfying_examples(m, m.rankings[index])] for m in measures], dtype=np.float64
    )
    areas = np.array([auroc(m.scores[index], m.correct) for m in measures])
    left = [residual_on_length(m.scores[index], m.tokens) for m in measures]
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
        gain_with_examples=sample.mean(checked - random_accuracy),
        by_difficulty={name: sample.mean(np.where(member, gain, np.nan)) for name, member in groups.items()},
        auroc_by_difficulty={name: sample.mean(np.where(member, areas, np.nan)) for name, member in groups.items()},
        milliseconds=float(np.median([m.milliseconds[index] for m in measures])),
        tokens=float(tokens.mean()),
        saved=1 - float(tokens.sum()) / everything if everything else 0.0,
        pick_tokens=float(np.mean([m.tokens[pick] for m, pick in zip(measures, picks, strict=True)])),
    )


def _first_satisfying_examples(measures: ProblemMeasures, ranking: NDArray[np.int64]) -> int:
    """Return the first candidate in the ranking that satisfies the examples; the first of all if none does."""
    if measures.examples is not None:
        for candidate in ranking:
            if measures.examples[candidate]:
                return int(candidate)
    return int(ranking[0])


def _random_accuracy_with_examples(measures: ProblemMeasures) -> float:
    among = measures.correct
    if measures.examples is not None and measures.examples.any():
        among = among[measures.examples]
    return float(among.mean())
