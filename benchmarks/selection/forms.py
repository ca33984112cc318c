"""Other forms of the vote on what programs do, against the selector `behaviour`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from problems import Problem

from nad_agents.evaluation.statistics import Resampling
from nad_agents.evaluation.tables import Table, percent
from nad_agents.selectors import NADFusion, Scores, mean_logprob, rank
from nad_agents.selectors.fusion import rank_share

Labels = NDArray[np.int64]
Values = NDArray[np.float64]
HALVINGS = 1000


def _agreeing(labels: Labels) -> NDArray[np.float64]:
    """Return on which inputs each two candidates agree, float64 [N, N, inputs], nobody with themselves."""
    same = (labels[:, None, :] == labels[None, :, :]) & (labels >= 0)[:, None, :]
    found = same.astype(np.float64)
    found[np.arange(len(labels)), np.arange(len(labels))] = 0.0
    return found


def vote(labels: Labels, _: Values, __: Labels) -> Values:
    return _agreeing(labels).sum(axis=1).mean(axis=1)


def squared(labels: Labels, _: Values, __: Labels) -> Values:
    """Squared shares of agreeing candidates, each voter weighted by its own agreement."""
    agreeing = _agreeing(labels)
    weight = agreeing.sum(axis=1).mean(axis=1)
    shares = (agreeing * weight[None, :, None]).sum(axis=1) / max(float(weight.sum()), 1e-9)
    return (shares**2).mean(axis=1)


def weighted_by_logprob(labels: Labels, logprobs: Values, _: Labels) -> Values:
    return (_agreeing(labels) * (0.5 + rank_share(logprobs))[None, :, None]).sum(axis=1).mean(axis=1)


def distinct_once(labels: Labels, _: Values, programs: Labels) -> Values:
    """Equal programs have one vote together."""
    _, number, counts = np.unique(programs, return_inverse=True, return_counts=True)
    return (_agreeing(labels) / counts[number.ravel()][None, :, None]).sum(axis=1).mean(axis=1)


def separating_inputs(labels: Labels, _: Values, __: Labels) -> Values:
    """Inputs count by how much they tell the candidates apart."""
    agreeing = _agreeing(labels).sum(axis=1)
    apart = 1 - agreeing.mean(axis=0) / max(len(labels) - 1, 1)
    return agreeing @ apart


def divisions_once(labels: Labels, _: Values, __: Labels) -> Values:
    """Inputs that divide the candidates alike count once together."""
    divisions: dict[tuple[int, ...], int] = {}
    for place, column in enumerate(labels.T.tolist()):
        first: dict[int, int] = {}
        divisions.setdefault(
            tuple(first.setdefault(label, len(first)) if label >= 0 else -1 for label in column), place
        )
    return _agreeing(labels)[:, :, list(divisions.values())].sum(axis=1).mean(axis=1)


def crashes_punished(labels: Labels, _: Values, __: Labels) -> Values:
    return vote(labels, _, __) - (labels < 0).mean(axis=1) * len(labels)


def rank_sum(labels: Labels, logprobs: Values, programs: Labels) -> Values:
    """The rank by the vote plus the rank by log-probability."""
    return rank_share(vote(labels, logprobs, programs)) + rank_share(logprobs)


FORMS: dict[str, Callable[[Labels, Values, Labels], Values]] = {
    "behaviour": vote,
    "rank by behaviour + rank by log-probability": rank_sum,
    "squared shares, voters weighted by agreement": squared,
    "voters weighted by log-probability": weighted_by_logprob,
    "equal programs counted once": distinct_once,
    "inputs weighted by how they separate": separating_inputs,
    "inputs that divide the candidates alike counted once": divisions_once,
    "crashes punished": crashes_punished,
}


def forms_table(problems: Sequence[Problem], sizes: Sequence[int], draws: int) -> Table:
    """Return the accuracy of `behaviour`, and what the other forms add; in the last row the best one on one half."""
    known = [problem for problem in problems if problem.outcomes is not None and problem.outcomes.shape[1]]
    sample, columns = Resampling(len(known)), []
    for size in sizes:
        right = np.zeros((len(FORMS), len(known)))
        for place, problem in enumerate(known):
            rng = np.random.default_rng([size, place])
            for _ in range(draws if size < len(problem) else 1):
                members = sorted(rng.choice(len(problem), size, replace=False).tolist())
                right[:, place] += _picks(problem, members)
            problem.forget()
            right[:, place] /= draws if size < len(problem) else 1
        cells = [percent(sample.mean(right[0]))]
        cells += [percent(sample.mean(row - right[0]), signed=True) for row in right[1:]]
        columns.append([*cells, f"{_held_out(right):+.1f}"])
    labels = [*FORMS, "the best on one half, on the other half"]
    return ("form", *(f"N = {size}" for size in sizes)), [
        (label, *row) for label, row in zip(labels, zip(*columns, strict=True), strict=True)
    ]


def _picks(problem: Problem, members: list[int]) -> NDArray[np.float64]:
    assert problem.outcomes is not None
    part = problem.part(members)
    labels, programs = problem.outcomes[members], problem.programs[members]
    logprobs = np.array([mean_logprob(rollout) for rollout in part.rollouts])
    ties = problem.scores(members, NADFusion())
    found = []
    for form in FORMS.values():
        values = np.round(form(labels, logprobs, programs), 9)
        best = rank(Scores(values, (ties.values, *ties.tie_breaks)), part)[0]
        found.append(float(problem.correct[members[best]]))
    return np.array(found)


def _held_out(right: NDArray[np.float64]) -> float:
    """Return in points what the best form on one half gains over `behaviour` on the other half, over random halves."""
    rng, total = np.random.default_rng(0), 0.0
    for _ in range(HALVINGS):
        half = np.zeros(right.shape[1], dtype=bool)
        half[rng.permutation(right.shape[1])[: right.shape[1] // 2]] = True
        best = int(np.argmax(np.round(right[:, half].mean(axis=1), 9)))
        total += float((right[best, ~half] - right[0, ~half]).mean())
    return 100 * total / HALVINGS
