"""The paper's findings re-measured: neurons against entropy, and counts and agreement of right and wrong candidates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nad_agents.evaluation.measures import ProblemMeasures
from nad_agents.evaluation.statistics import Estimate, Resampling, correlation, residual_on_length

__all__ = ["activated_counts", "agreement_by_outcome", "count_entropy"]


def count_entropy(measures: Sequence[ProblemMeasures]) -> dict[str, Estimate]:
    """Correlate neuron count with mean entropy, over chunks and over candidates, with and without the effect of length.

    Returns:
        Pearson's and Spearman's correlation by unit, under keys such as "chunk, Pearson".
    """
    chunks = [m.chunk_points for m in measures]
    some = [m.tokens > 0 for m in measures]
    counts = [m.counts[s].astype(np.float64) for m, s in zip(measures, some, strict=True)]
    entropies = [m.entropies[s] for m, s in zip(measures, some, strict=True)]
    lengths = [m.tokens[s] for m, s in zip(measures, some, strict=True)]
    counts_left = [residual_on_length(c, t) for c, t in zip(counts, lengths, strict=True)]
    entropies_left = [residual_on_length(e, t) for e, t in zip(entropies, lengths, strict=True)]
    units = {
        "chunk": ([c[:, 0] for c in chunks], [c[:, 1] for c in chunks], False),
        "chunk within a problem": ([c[:, 0] for c in chunks], [c[:, 1] for c in chunks], True),
        "candidate": (counts, entropies, False),
        "candidate within a problem": (counts, entropies, True),
        "candidate within a problem, without length": (counts_left, entropies_left, True),
    }
    return {
        f"{unit}, {kind}": correlation(xs, ys, ranks=kind == "Spearman", within=within)
        for unit, (xs, ys, within) in units.items()
        for kind in ("Pearson", "Spearman")
    }


def activated_counts(measures: Sequence[ProblemMeasures], sample: Resampling) -> dict[str, Estimate]:
    """Compute the mean number of unique neurons of right and of wrong candidates, and their difference.

    Only problems with right and wrong candidates count.

    Args:
        measures: What was measured on each problem.
        sample: Resampling of the problems, for the intervals.
    """

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
                # problems without both kinds would add the difference between problems
                both = m.correct.any() and not m.correct.all()
                counts = residual_on_length(counts, m.tokens) if controlled else counts
                values.append(per_problem(counts, m, right) if both else np.nan)
            sides[side] = np.array(values)
            if not controlled:
                found[f"{name}, {side}"] = sample.mean(sides[side])
        found[f"{name}, right minus wrong"] = sample.mean(sides["right"] - sides["wrong"])
    return found


def agreement_by_outcome(measures: Sequence[ProblemMeasures], sample: Resampling) -> dict[str, Estimate]:
    """Compute the mean similarity of two candidates by whether they are right.

    Only problems with right and wrong candidates count.

    Args:
        measures: What was measured on each problem.
        sample: Resampling of the problems, for the intervals.
    """
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
