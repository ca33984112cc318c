"""Accuracy of selectors by the number of candidates, raw and length-controlled, and chosen on half of the problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from problems import FIRST_CHUNK, WEIGHTED, WHOLE, Problem, Source

from nad_agents.evaluation.statistics import Resampling, auroc, residual_on_length
from nad_agents.evaluation.tables import Table, percent, plain
from nad_agents.selectors import (
    DBSCAN,
    KNN,
    NEX,
    BehaviourGroups,
    Copeland,
    DeepConf,
    Entropy,
    Majority,
    Medoid,
    MinAct,
    NADFusion,
    Scores,
    SelfCertainty,
    Shortest,
    rank,
)
from nad_agents.selectors import MeanLogprob as Logprob
from nad_agents.selectors import Selector as AnySelector

HALVINGS = 1000


@dataclass(frozen=True)
class Choice:
    """A way to choose among the candidates.

    Attributes:
        label: Name in the tables.
        selector: Makes the selector for a problem; None takes one at random.
        checked: Whether the first one that passes the prompt's examples is taken, or only those that pass vote.
        executed: Whether programs are run.
    """

    label: str
    selector: Callable[[Problem], AnySelector] | None
    checked: Literal["no", "first", "all"] = "no"
    executed: bool = False


def choices_for(problems: Sequence[Problem]) -> list[Choice]:
    """List the selectors that the recording allows."""

    def fixed(selector: AnySelector) -> Callable[[Problem], AnySelector]:
        return lambda _: selector

    found = [
        Choice("random", None),
        Choice("shortest", fixed(Shortest())),
        Choice("min_act", fixed(MinAct())),
        Choice("knn", fixed(KNN())),
        Choice("knn after 32 tokens", fixed(KNN(comparison=FIRST_CHUNK))),
        Choice("medoid", fixed(Medoid())),
        Choice("medoid, weighted rates", fixed(Medoid(comparison=WEIGHTED))),
        Choice("copeland", fixed(Copeland())),
        Choice("mean_logprob", fixed(Logprob())),
    ]
    if problems[0].has_neurons:
        others = (DBSCAN(), NEX(), Entropy(), SelfCertainty(), DeepConf())
        found += [Choice(selector.name, fixed(selector)) for selector in others]
    found += [
        Choice("nad_fusion, cut answers too", fixed(NADFusion(whole_first=False))),
        Choice("nad_fusion, weighted rates", fixed(NADFusion(comparison=WEIGHTED))),
        Choice("nad_fusion", fixed(NADFusion())),
    ]
    if all(problem.verdicts.answers is not None for problem in problems):
        found += [
            Choice("majority", lambda problem: Majority(problem.answer_of)),
            Choice("majority, weighted", lambda problem: problem.auto),
        ]
    if any(problem.outcomes is not None for problem in problems):
        found += [
            Choice("behaviour_groups", lambda p: BehaviourGroups(runner=p.observer), executed=True),
            Choice("behaviour", lambda problem: problem.auto, executed=True),
        ]
    if any(problem.examples is not None for problem in problems):
        found += [
            Choice("random, examples checked", None, "first", executed=True),
            Choice("nad_fusion, examples checked", fixed(NADFusion()), "first", executed=True),
            Choice("behaviour, examples checked", lambda problem: problem.auto, "first", executed=True),
            Choice("behaviour, all checked", lambda problem: problem.auto, "all", executed=True),
        ]
    return found


@dataclass(frozen=True)
class BySize:
    """What every way to choose gives for a number of candidates; per problem, means over random subsets.

    Attributes:
        size: Number of candidates.
        right: Float64 [choices, problems], share of right picks.
        right_by_residual: The same for the residual of the score on length within the subset.
        areas: Float64 [choices, problems], AUROC of the score; NaN where all are right or wrong.
        areas_by_residual: The same for the residual.
        oracle: Float64 [problems], share of subsets with a right candidate.
        tokens: Float64 [problems], tokens of the subset.
        programs: Float64 [problems], distinct programs in the subset.
    """

    size: int
    right: NDArray[np.float64]
    right_by_residual: NDArray[np.float64]
    areas: NDArray[np.float64]
    areas_by_residual: NDArray[np.float64]
    oracle: NDArray[np.float64]
    tokens: NDArray[np.float64]
    programs: NDArray[np.float64]


def by_size(problems: Sequence[Problem], choices: Sequence[Choice], sizes: Sequence[int], draws: int) -> list[BySize]:
    """Choose among random subsets of the candidates."""
    found = [
        BySize(size, *(np.zeros((len(choices), len(problems))) for _ in range(4)), *np.zeros((3, len(problems))))
        for size in sizes
    ]
    for place, problem in enumerate(problems):
        for result in found:
            rng = np.random.default_rng([result.size, place])
            subsets = [list(range(len(problem)))]
            if result.size < len(problem):
                subsets = [sorted(rng.choice(len(problem), result.size, replace=False).tolist()) for _ in range(draws)]
            picks = np.array([[_pick(problem, members, choice) for members in subsets] for choice in choices])
            with np.errstate(invalid="ignore"):
                columns = picks.mean(axis=1)
            result.right[:, place], result.right_by_residual[:, place] = columns[:, 0], columns[:, 1]
            known = np.isfinite(picks[:, :, 2])
            counts = known.sum(axis=1)
            for target, column in ((result.areas, 2), (result.areas_by_residual, 3)):
                sums = np.where(known, picks[:, :, column], 0.0).sum(axis=1)
                target[:, place] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
            result.oracle[place] = np.mean([problem.correct[members].any() for members in subsets])
            result.tokens[place] = np.mean([problem.tokens[members].sum() for members in subsets])
            result.programs[place] = np.mean([len(set(problem.programs[members])) for members in subsets])
            problem.forget()
    return found


def _pick(problem: Problem, members: list[int], choice: Choice) -> tuple[float, float, float, float]:
    """Return whether the picks by score and by residual are right, and the AUROC of both."""
    passing = [i for i in members if problem.examples is not None and problem.examples[i]]
    if choice.selector is None:
        among = passing if choice.checked != "no" and passing else members
        share = float(problem.correct[among].mean())
        return share, share, np.nan, np.nan
    selector = choice.selector(problem)
    if choice.checked == "all" and passing:
        members = passing
    if len(members) == 1:
        right = float(problem.correct[members[0]])
        return right, right, np.nan, np.nan
    part = problem.part(members, getattr(selector, "comparison", WHOLE))
    scores = problem.scores(members, selector)
    left = residual_on_length(scores.values, problem.tokens[members])
    correct = problem.correct[members]
    if getattr(selector, "comparison", WHOLE).compare_chunks is not None:
        # ties of equal beginnings must not be broken by what comes later
        right = [float(correct[values >= np.nanmax(values)].mean()) for values in (scores.values, left)]
        return right[0], right[1], auroc(scores.values, correct), auroc(left, correct)
    right = []
    for ranking in (rank(scores, part), rank(Scores(left), part)):
        ordered = [members[place] for place in ranking]
        if choice.checked == "first" and passing:
            ordered.sort(key=lambda i: i not in passing)
        right.append(float(problem.correct[ordered[0]]))
    return right[0], right[1], auroc(scores.values, correct), auroc(left, correct)


def size_table(found: Sequence[BySize], choices: Sequence[Choice], *, controlled: bool) -> Table:
    """Return accuracy by number of candidates, with the costs below; length-controlled with the AUROC beside it."""
    sample = Resampling(len(found[0].oracle))
    rows = []
    for number, choice in enumerate(choices):
        arrays = [one.right_by_residual if controlled else one.right for one in found]
        cells = [percent(sample.mean(array[number])) for array in arrays]
        last = found[-1]
        if controlled:
            cells += [plain(sample.mean(last.areas[number])), plain(sample.mean(last.areas_by_residual[number]))]
        else:
            cells.append(percent(sample.mean(last.right[number] - last.right[0]), signed=True))
        rows.append((choice.label, *cells))
    head = ["selector", *(f"N = {one.size}" for one in found)]
    if controlled:
        return (*head, "AUROC", "AUROC without length"), rows
    costs = (("any of N", lambda one: percent(sample.mean(one.oracle))),)
    rows += [(label, *(cell(one) for one in found), "") for label, cell in costs]
    rows.append(("tokens generated", *(f"{one.tokens.mean():.0f}" for one in found), ""))
    if any(choice.executed for choice in choices):
        rows.append(("distinct programs", *(f"{one.programs.mean():.1f}" for one in found), ""))
    return (*head, f"against random, N = {found[-1].size}"), rows


def difference_table(found: Sequence[BySize], choices: Sequence[Choice]) -> Table:
    """Return the differences that the page quotes, and the share of the gap from random to any of N that is closed."""
    sample = Resampling(len(found[0].oracle))
    places = {choice.label: number for number, choice in enumerate(choices)}
    pairs = (
        ("nad_fusion", "knn"),
        ("nad_fusion", "medoid"),
        ("nad_fusion", "mean_logprob"),
        ("majority, weighted", "majority"),
        ("majority, weighted", "nad_fusion"),
        ("behaviour", "nad_fusion"),
        ("behaviour", "behaviour_groups"),
        ("behaviour, examples checked", "random, examples checked"),
        ("behaviour, all checked", "behaviour, examples checked"),
    )
    rows = [
        (
            f"{one} minus {other}",
            *(percent(sample.mean(size.right[places[one]] - size.right[places[other]]), signed=True) for size in found),
        )
        for one, other in pairs
        if one in places and other in places
    ]
    for label in ("nad_fusion", "majority, weighted", "behaviour"):
        if label in places:
            closed = [
                sample.ratio(size.right[places[label]] - size.right[0], size.oracle - size.right[0]) for size in found
            ]
            rows.append((f"{label}: share of the gap from random to any of N", *map(percent, closed)))
    for label in ("behaviour, examples checked", "behaviour, all checked"):
        if label in places:
            shares = [sample.ratio(size.right[places[label]], size.oracle) for size in found]
            rows.append((f"{label}: share of any of N", *map(percent, shares)))
    return ("difference", *(f"N = {size.size}" for size in found)), rows


def halves_table(measured: Sequence[tuple[Source, list[Choice], list[BySize]]]) -> Table:
    """Choose the selector that runs nothing on random halves of all problems; return its gain on the other halves."""
    labels = [choice.label for choice in measured[0][1] if not choice.executed and choice.selector is not None]
    labels = [label for label in labels if all(label in [c.label for c in choices] for _, choices, _ in measured)]
    sizes = sorted(set.intersection(*({one.size for one in found} for _, _, found in measured)))
    rows = []
    for size in sizes:
        gains = _gains(measured, labels, size)
        rng = np.random.default_rng(size)
        chosen: Counter[str] = Counter()
        worth: dict[str, float] = dict.fromkeys(("the choice", "knn", "nad_fusion"), 0.0)
        for _ in range(HALVINGS):
            half = np.zeros(gains.shape[1], dtype=bool)
            half[rng.permutation(gains.shape[1])[: gains.shape[1] // 2]] = True
            best = int(np.argmax(np.round(gains[:, half].mean(axis=1), 9)))
            chosen[labels[best]] += 1
            for name, number in (("the choice", best), *((name, labels.index(name)) for name in ("knn", "nad_fusion"))):
                worth[name] += 100 * float(gains[number, ~half].mean()) / HALVINGS
        most = ", ".join(f"{label} {100 * count / HALVINGS:.0f}%" for label, count in chosen.most_common(3))
        rows.append((str(size), *(f"{worth[name]:+.1f}" for name in worth), most))
    return ("N", "gain of the choice on the other half", "of knn there", "of nad_fusion there", "chosen most"), rows


def _gains(
    measured: Sequence[tuple[Source, list[Choice], list[BySize]]], labels: Sequence[str], size: int
) -> NDArray[np.float64]:
    """Return what each choice gains over a random pick on each problem, float64 [labels, problems of all sources]."""
    columns = []
    for _, choices, found in measured:
        places: Mapping[str, int] = {choice.label: number for number, choice in enumerate(choices)}
        right = next(one.right for one in found if one.size == size)
        columns.append(right[[places[label] for label in labels]] - right[0])
    return np.hstack(columns)
