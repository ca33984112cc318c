"""What needs the neurons of each token: a direction learned from verdicts, and the time of scoring 64 candidates."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from problems import WHOLE, Problem
from scipy.sparse import csr_array

from nad_agents.evaluation.statistics import Estimate, Resampling, auroc
from nad_agents.evaluation.tables import Table, plain
from nad_agents.neurons.activated_sets import neuron_counts
from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors import KNN, Behaviour, Copeland, Majority, MeanLogprob, Medoid, NADFusion, Selector

ROUNDS = 5


def learned(problems: Sequence[Problem]) -> Estimate:
    """Estimate the AUROC within problems of a direction that is learned from the verdicts of the other problems.

    The direction is the mean difference of the rates with which right and wrong candidates activate each neuron.
    """
    mixed = [problem for problem in problems if problem.correct.any() and not problem.correct.all()]
    rates = [_rates(problem) for problem in mixed]
    directions = [
        matrix[problem.correct].mean(axis=0) - matrix[~problem.correct].mean(axis=0)
        for problem, matrix in zip(mixed, rates, strict=True)
    ]
    total = np.sum(directions, axis=0)
    areas = [
        auroc(matrix @ (total - own), problem.correct)
        for problem, matrix, own in zip(mixed, rates, directions, strict=True)
    ]
    return Resampling(len(mixed)).mean(np.array(areas))


def _rates(problem: Problem) -> csr_array:
    """Return how often a token of each candidate activates each neuron, float64 [N, neurons]."""
    counts = neuron_counts(problem.group, WHOLE)
    ends = np.cumsum([0, *(len(ids) for ids, _ in counts)])
    values = np.concatenate([c / max(len(r), 1) for (_, c), r in zip(counts, problem.group.rollouts, strict=True)])
    ids = np.concatenate([ids for ids, _ in counts])
    return csr_array((values, ids, ends), shape=(len(counts), problem.group.layout.n_neurons))


def speed_table(problems: Sequence[Problem], size: int = 64) -> Table:
    """Return the processor time of scoring 64 candidates, taken from several problems, from the neurons on."""
    taken: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, selector in _timed(problems):
            group = _together(problems, size)
            started = time.process_time()
            selector.score(group)
            taken.setdefault(name, []).append(1000 * (time.process_time() - started))
    rows = [(name, f"{np.median(times):.0f}", f"{min(times):.0f} to {max(times):.0f}") for name, times in taken.items()]
    return (f"{size} candidates scored", "milliseconds of processor time", "range"), rows


def _timed(problems: Sequence[Problem]) -> Iterator[tuple[str, Selector]]:
    yield from ((s.name, s) for s in (KNN(), Medoid(), Copeland(), MeanLogprob(), NADFusion(), Majority("last_number")))
    if any(problem.outcomes is not None for problem in problems):
        yield "behaviour, programs observed before", Behaviour(runner=_Known(problems))


class _Known:
    """Returns recorded outcomes for candidates of several problems; one without an input repeats its first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self._observed = {}
        self._inputs = max(p.outcomes.shape[1] for p in problems if p.outcomes is not None)
        for problem in problems:
            texts = [rollout.text for rollout in problem.group.rollouts]
            if problem.outcomes is not None and problem.outcomes.shape[1]:
                seen = problem.observer.observe(texts)
                self._observed |= dict(zip(texts, seen.outcomes, strict=True))

    def observe(self, answers: Sequence[str], *, prompt: str = ""):
        del prompt
        from nad_agents.evaluation.measures import RecordedObservations, RecordedOutcome

        rows = [self._observed.get(answer) or (RecordedOutcome(-1),) for answer in answers]
        rows = [tuple(row[i % len(row)] for i in range(self._inputs)) for row in rows]
        return RecordedObservations(tuple(f"input {i}" for i in range(self._inputs)), tuple(rows))


def _together(problems: Sequence[Problem], size: int) -> RolloutGroup:
    """Put candidates of several problems into one new group, so that the time of scoring it includes all work."""
    rollouts = [rollout for problem in problems for rollout in problem.group.rollouts if len(rollout)][:size]
    numbered = [replace(rollout, index=i) for i, rollout in enumerate(rollouts)]
    return RolloutGroup(numbered, problems[0].group.layout)


def neurons_table(problems: Sequence[Problem]) -> Table:
    """Return how well the learned direction tells right from wrong candidates of other problems."""
    found = learned(problems)
    return ("finding", "value", "problems"), [
        ("AUROC of a direction learned from other problems' verdicts", plain(found), str(found.n))
    ]
