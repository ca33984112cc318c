"""How well `selection.confidence` is calibrated: its reliability, and a curve fitted on one half against the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from problems import Problem
from scipy.optimize import minimize

from nad_agents.confidence import agreeing_share, estimate_confidence
from nad_agents.evaluation.statistics import Resampling
from nad_agents.evaluation.tables import Table, percent
from nad_agents.selectors import rank

HALVINGS = 200
BINS = 5


@dataclass(frozen=True)
class Estimates:
    """Estimates for the picks of one kind, float64 [picks] each.

    Attributes:
        kind: What the estimate is made from.
        problem: The problem of each pick, int64 [picks].
        share: Share of the others that give the same answer.
        estimate: The confidence.
        right: 1 where the pick is right.
    """

    kind: str
    problem: NDArray[np.int64]
    share: NDArray[np.float64]
    estimate: NDArray[np.float64]
    right: NDArray[np.float64]


def estimates(problems: Sequence[Problem], size: int, draws: int) -> list[Estimates]:
    """Let `auto` choose among random subsets, without and with the prompt's examples as checks."""
    rows: dict[str, list[tuple[int, float, float, float]]] = {}
    for place, problem in enumerate(problems):
        rng = np.random.default_rng([size, place])
        for _ in range(draws if size < len(problem) else 1):
            members = sorted(rng.choice(len(problem), size, replace=False).tolist())
            part, scores = problem.part(members), problem.scores(members, problem.auto)
            if scores.votes is None:
                continue
            ranking = rank(scores, part)
            share = agreeing_share(scores.votes, ranking[0])
            kind = "programs" if problem.runs_programs else "stated answers"
            found = estimate_confidence(problem.auto.name, scores.votes, ranking[0])
            rows.setdefault(kind, []).append((place, share, found or 0.0, float(problem.correct[members[ranking[0]]])))
            if problem.examples is None:
                continue
            passing = [i for i in ranking if problem.examples[members[i]]]
            pick = passing[0] if passing else ranking[0]
            share = agreeing_share(scores.votes, pick)
            found = estimate_confidence(problem.auto.name, scores.votes, pick, passed=bool(passing))
            right = float(problem.correct[members[pick]])
            kind = "programs that pass the examples" if passing else "programs of which none passes the examples"
            rows.setdefault(kind, []).append((place, share, found or 0.0, right))
        problem.forget()
    found_kinds = []
    for kind, values in rows.items():
        columns = np.array(values).T
        found_kinds.append(Estimates(kind, columns[0].astype(np.int64), *columns[1:]))
    return found_kinds


def calibration_error(estimate: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Return the expected calibration error: the mean distance of estimate and accuracy over bins of a fifth."""
    bins = np.minimum((estimate * BINS).astype(int), BINS - 1)
    gaps = [abs(float((estimate - right)[bins == place].sum())) for place in range(BINS)]
    return sum(gaps) / len(right)


def _fitted(share: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return intercept and slope of the logistic curve, with a weak prior that keeps both finite."""

    def loss(curve: NDArray[np.float64]) -> float:
        logits = curve[0] + curve[1] * share
        return float(np.mean(np.logaddexp(0, logits) - right * logits) + 0.01 * curve[1] ** 2 / len(share))

    return np.asarray(minimize(loss, np.zeros(2), method="L-BFGS-B").x, dtype=np.float64)


def _applied(curve: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-(curve[0] + curve[1] * share))), dtype=np.float64)


def calibration_table(kinds: Sequence[Estimates], problems: int) -> Table:
    """Return the calibration errors in points: as shipped, and with curves fitted on random halves of the problems."""
    sample = Resampling(problems, draws=1000)
    rows = []
    for found in kinds:
        drawn = [np.repeat(np.arange(len(found.right)), w[found.problem].astype(int)) for w in sample.weights]
        errors = [calibration_error(found.estimate[places], found.right[places]) for places in drawn if len(places)]
        low, high = np.percentile(errors, [2.5, 97.5])
        shipped = calibration_error(found.estimate, found.right)
        halves = _on_halves(found, problems)
        rows.append(
            (
                found.kind,
                str(len(set(found.problem.tolist()))),
                f"{found.estimate.mean():.2f}",
                f"{found.right.mean():.2f}",
                f"{100 * shipped:.1f} [{100 * low:.1f}, {100 * high:.1f}]",
                *(f"{100 * float(np.mean(column)):.1f}" for column in halves.T),
            )
        )
    head = ("kind", "problems", "mean estimate", "right", "calibration error as shipped, points")
    return (*head, "fitted on half, on the other half", "share of right picks of one half, on the other"), rows


def _on_halves(found: Estimates, problems: int) -> NDArray[np.float64]:
    errors = []
    for seed in range(HALVINGS):
        half = np.zeros(problems, dtype=bool)
        half[np.random.default_rng(seed).permutation(problems)[: problems // 2]] = True
        own, other = half[found.problem], ~half[found.problem]
        if not own.any() or not other.any():
            continue
        curve = _fitted(found.share[own], found.right[own])
        base = np.full(int(other.sum()), found.right[own].mean())
        errors.append(
            (
                calibration_error(_applied(curve, found.share[other]), found.right[other]),
                calibration_error(base, found.right[other]),
            )
        )
    return np.array(errors).reshape(-1, 2)


def reliability_table(kinds: Sequence[Estimates], problems: int) -> Table:
    """Return the reliability curve: for each fifth of the estimate its mean and the share of right picks."""
    sample = Resampling(problems)
    rows = []
    for found in kinds:
        bins = np.minimum((found.estimate * BINS).astype(int), BINS - 1)
        for place in np.unique(bins):
            chosen = bins == place
            counts = np.bincount(found.problem[chosen], minlength=problems).astype(np.float64)
            right = np.bincount(found.problem[chosen], weights=found.right[chosen], minlength=problems)
            accuracy = percent(sample.ratio(right, counts))
            rows.append((found.kind, f"{found.estimate[chosen].mean():.2f}", accuracy, str(int((counts > 0).sum()))))
    return ("kind", "estimated probability", "right picks, %", "problems"), rows
