"""The paper's findings (arXiv 2510.26277) on a recording: agreement, sparsity, early choices, neurons and entropy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from accuracy import BySize, Choice
from numpy.typing import NDArray
from problems import WHOLE, Problem

from nad_agents.evaluation.findings import activated_counts, agreement_by_outcome, count_entropy
from nad_agents.evaluation.measures import ProblemMeasures, shared_start
from nad_agents.evaluation.statistics import Resampling, correlation
from nad_agents.evaluation.tables import Table, percent, plain
from nad_agents.neurons.activated_sets import similarity_matrix, unique_counts

_UNITS = {
    "candidate within a problem, Spearman": "neuron count and entropy, candidates of a problem (Spearman)",
    "candidate within a problem, without length, Spearman": "the same at equal length",
}


def findings_table(problems: Sequence[Problem], largest: BySize, choices: Sequence[Choice]) -> Table:
    """Return each finding with its interval, and what explains it where it fails.

    Args:
        problems: The problems.
        largest: What every selector picks from all candidates.
        choices: The selectors.
    """
    sample = Resampling(len(problems))
    measures = [_measures(problem) for problem in problems]
    rows = [(f"similarity of {name}", plain(e, 3)) for name, e in agreement_by_outcome(measures, sample).items()]
    rows += [(f"activated {name}", plain(e, 0)) for name, e in activated_counts(measures, sample).items()]
    entropy = count_entropy(measures)
    rows += [(label, plain(entropy[unit])) for unit, label in _UNITS.items()]
    places = {choice.label: number for number, choice in enumerate(choices)}
    for label in ("min_act", "shortest", "knn", "knn after 32 tokens"):
        gain = sample.mean(largest.right[places[label]] - largest.right[0])
        rows.append((f"{label}: gain over random, points", percent(gain, signed=True)))
    # what explains the findings
    lengths = [problem.tokens.astype(np.float64) for problem in problems]
    counts = [unique_counts(problem.group, WHOLE).astype(np.float64) for problem in problems]
    rows.append(("neuron count and length, candidates of a problem (Spearman)", plain(_within(counts, lengths))))
    mixed = [p.correct.any() and not p.correct.all() for p in problems]
    longer = [
        p.tokens[p.correct].mean() - p.tokens[~p.correct].mean() if both else np.nan
        for p, both in zip(problems, mixed, strict=True)
    ]
    rows.append(("tokens, right minus wrong", plain(sample.mean(np.array(longer)), 0)))
    if problems[0].has_neurons:
        shared = np.array([float(shared_start(problem.group)) for problem in problems])
        rows.append(("tokens with which all candidates begin alike", plain(sample.mean(shared), 0)))
    rows.append(
        ("candidates cut by the token limit, %", percent(sample.mean(np.array([p.cut.mean() for p in problems]))))
    )
    return ("finding", "value"), rows


def _within(xs: Sequence[NDArray[np.float64]], ys: Sequence[NDArray[np.float64]]):
    return correlation(xs, ys, ranks=True, within=True)


def _measures(problem: Problem) -> ProblemMeasures:
    """Return what the report's findings are computed from; what they do not read is empty."""
    nothing: NDArray[np.float64] = np.zeros((0, len(problem)))
    return ProblemMeasures(
        problem=problem.verdicts.problem,
        correct=problem.correct,
        examples=problem.examples,
        tokens=problem.tokens,
        shared=0,
        cut=problem.cut,
        seconds=np.nan,
        counts=unique_counts(problem.group, WHOLE),
        entropies=problem.entropies,
        similarity=similarity_matrix(problem.group, WHOLE),
        scores=nothing,
        rankings=nothing.astype(np.int64),
        milliseconds=np.zeros(0),
        sweeps={},
        subsets={},
        chunk_points=np.zeros((0, 2)),
        growth=(),
    )
