"""What is measured of one problem: every selector's ranking and scores, and the raw signals."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from math import comb
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from nad_agents.evaluation.scoring import agreed_answers
from nad_agents.evaluation.variants import (
    SWEPT,
    Sweep,
    SweepName,
    Variant,
    neighbour_sweep,
    position_sweep,
    standard_variants,
    weight_sweep,
    width_sweep,
)
from nad_agents.evaluation.verdicts import ProblemVerdicts, read_verdicts
from nad_agents.exceptions import ConfigurationError
from nad_agents.neurons.activated_sets import ComparisonConfig, chunk_sets, similarity_matrix, unique_counts
from nad_agents.rollouts import RolloutGroup
from nad_agents.runs import RecordedRun, RunError
from nad_agents.selectors import Majority, Medoid, Scores, get_selector, rank
from nad_agents.selectors.base import mean_logprob

__all__ = ["Plan", "ProblemMeasures", "measure_problem", "measure_run", "shared_start"]

_SUBSET_DRAWS = 20


@dataclass(frozen=True)
class Plan:
    """What to measure; the same for every problem of a run.

    Attributes:
        standard: the variants of the main table.
        sweeps: variants by what is varied and its setting.
        sizes: numbers of candidates, each smaller than N, that are drawn from the N.
    """

    standard: tuple[Variant, ...]
    sweeps: Mapping[SweepName, Sweep] = field(default_factory=dict)
    sizes: tuple[int, ...] = ()

    @classmethod
    def for_run(cls, run: RecordedRun, *, selectors: Collection[str] | None = None) -> Plan:
        """Everything that the recording allows.

        Args:
            run: the run.
            selectors: compare only these, by name.

        Raises:
            RunError: nothing is recorded, or without neurons.
            ConfigurationError: a selector is not among those that can be compared on this run.
        """
        if not run.problems:
            msg = f"{run.folder} has no complete problem yet; wait for the first, or resume the recording"
            raise RunError(msg)
        head = run.head(run.problems[0])
        blocks = [s for s in head["sections"] if s["name"].startswith("neurons/")]
        if not blocks:
            msg = f"{run.folder} was recorded without neurons; record it again with the recorder on"
            raise RunError(msg)
        verdicts = read_verdicts(run.folder).values()
        layout, n, width = head["layout"], len(head["candidates"]), blocks[0]["shape"][1]
        standard = standard_variants(
            first_layer=layout["first_layer"],
            n_layers=layout["n_layers"],
            answers=all(run.head(problem)["task"].get("kind") == "answer" for problem in run.problems),
            examples=any(v.examples is not None for v in verdicts),
            behaviour=any(v.behaviour is not None for v in verdicts),
        )
        sweeps: dict[SweepName, Sweep] = {
            "position": position_sweep(),
            "width": width_sweep(width),
            "neighbours": neighbour_sweep(n),
            "weights": weight_sweep(),
        }
        if selectors is not None:
            known = list(dict.fromkeys(variant.selector for variant in standard))
            unknown = sorted(set(selectors) - set(known))
            if unknown or not selectors:
                what = ", ".join(unknown) or "nothing"
                msg = f"cannot compare {what} on this run; choose of {', '.join(known)}, or all"
                raise ConfigurationError(msg)
            standard = [variant for variant in standard if variant.selector in selectors]
            # every setting of a sweep has the same selectors
            sweeps = {
                name: {
                    setting: tuple(v for v in variants if v.selector in selectors) for setting, variants in s.items()
                }
                for name, s in sweeps.items()
                if any(v.selector in selectors for variants in s.values() for v in variants)
            }
        return cls(tuple(standard), sweeps, tuple(size for size in (2, 4, 8, 16, 32, 64) if size < n))


@dataclass(frozen=True)
class ProblemMeasures:
    """One problem; N candidates, V standard variants.

    Attributes:
        problem: its id.
        correct: bool [N].
        examples: bool [N], whether a candidate satisfies the prompt's examples; None where it has none.
        tokens: int64 [N].
        shared: number of tokens with which all candidates begin alike.
        cut: bool [N], ended by the token limit.
        seconds: what generating all candidates took, prompt included; NaN where it is not recorded.
        counts: int64 [N], unique activated neurons.
        entropies: float64 [N], mean entropy.
        similarity: float64 [N, N], Jaccard of the activated sets.
        scores: float64 [V, N], each variant's scores.
        rankings: int64 [V, N], candidates best first.
        milliseconds: float64 [V], what each variant's scores took, from activated neurons per token on.
        sweeps: by what is varied and its setting, int64 [variants, N] rankings.
        subsets: by number of candidates, share of correct picks, float64 [selectors].
        chunk_points: float64 [chunks of all candidates, 2], neuron count and mean entropy of each whole chunk.
        growth: per candidate its unique neurons after each whole chunk.
    """

    problem: str
    correct: NDArray[np.bool_]
    examples: NDArray[np.bool_] | None
    tokens: NDArray[np.int64]
    shared: int
    cut: NDArray[np.bool_]
    seconds: float
    counts: NDArray[np.int64]
    entropies: NDArray[np.float64]
    similarity: NDArray[np.float64]
    scores: NDArray[np.float64]
    rankings: NDArray[np.int64]
    milliseconds: NDArray[np.float64]
    sweeps: Mapping[SweepName, Mapping[int | str, NDArray[np.int64]]]
    subsets: Mapping[int, NDArray[np.float64]]
    chunk_points: NDArray[np.float64]
    growth: tuple[NDArray[np.int64], ...]


def measure_run(run: RecordedRun, plan: Plan, *, workers: int = 1) -> list[ProblemMeasures]:
    """Measure every problem that is recorded and scored, in the order of recording.

    Args:
        run: the run.
        plan: what to measure.
        workers: processes; a script that asks for more than one must guard its own work with
            ``if __name__ == "__main__"``, as each of them imports it.

    Raises:
        RunError: a record is damaged, or nothing is scored.
    """
    verdicts = read_verdicts(run.folder)
    todo = [problem for problem in run.problems if problem in verdicts]
    if not todo:
        msg = f"{run.folder} is not scored yet; score it with `nad report {run.folder}`"
        raise RunError(msg)
    if workers == 1:
        return [_measure(run, plan, problem, verdicts[problem]) for problem in todo]
    # not forked: a loaded model has threads, which a fork would leave with their locks held
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(partial(_measure, run, plan), todo, [verdicts[p] for p in todo], chunksize=4))


def _measure(run: RecordedRun, plan: Plan, problem: str, verdicts: ProblemVerdicts) -> ProblemMeasures:
    seconds = run.head(problem)["seconds"]
    took = sum(seconds[phase] for phase in ("prefill", "decode") if phase in seconds) or np.nan
    return measure_problem(run.group(problem), verdicts, plan, seconds=took)


def shared_start(group: RolloutGroup) -> int:
    """The number of tokens with which all non-empty candidates begin alike."""
    sequences = [rollout.token_ids for rollout in group.rollouts if len(rollout)]
    if len(sequences) < 2:
        return 0
    shortest = min(map(len, sequences))
    same = np.all(np.stack([s[:shortest] for s in sequences]) == sequences[0][:shortest], axis=0)
    return int(shortest if same.all() else np.argmin(same))


def measure_problem(
    group: RolloutGroup, verdicts: ProblemVerdicts, plan: Plan, *, seconds: float = np.nan
) -> ProblemMeasures:
    """Measure one problem; see `ProblemMeasures`.

    Raises:
        RunError: there is not one verdict per candidate.
    """
    if len(verdicts.correct) != len(group):
        msg = (
            f"problem {verdicts.problem!r} has {len(group)} candidates and {len(verdicts.correct)} verdicts; "
            "delete verdicts.jsonl and score again"
        )
        raise RunError(msg)
    correct = np.array(verdicts.correct, dtype=bool)
    scores, rankings, milliseconds = [], [], []
    for variant in plan.standard:
        # nothing that another variant has computed, so that times compare
        alone = RolloutGroup(group.rollouts, group.layout, group.prompt)
        started = time.perf_counter()
        given, ranking = _ranked(variant, alone, verdicts)
        milliseconds.append(1000 * (time.perf_counter() - started))
        if variant.checked:
            ranking = _checked(ranking, verdicts.examples)
        scores.append(-np.argsort(ranking).astype(np.float64) if variant.checked else given.values)
        rankings.append(ranking)
    whole = ComparisonConfig()
    chunks = [chunk_sets(group, i, whole) for i in range(len(group))]
    whole_chunks = [sets[: len(r) // whole.chunk_size] for sets, r in zip(chunks, group.rollouts, strict=True)]
    return ProblemMeasures(
        problem=verdicts.problem,
        correct=correct,
        examples=None if verdicts.examples is None else np.array(verdicts.examples, dtype=bool),
        tokens=np.array([len(r) for r in group.rollouts], dtype=np.int64),
        shared=shared_start(group),
        cut=np.array([r.finish_reason == "length" for r in group.rollouts], dtype=bool),
        seconds=seconds,
        counts=unique_counts(group, whole),
        entropies=np.array([r.entropies.mean(dtype=np.float64) if len(r) else np.nan for r in group.rollouts]),
        similarity=similarity_matrix(group, whole),
        scores=np.array(scores, dtype=np.float64),
        rankings=np.array(rankings, dtype=np.int64),
        milliseconds=np.array(milliseconds),
        sweeps={
            name: {
                setting: np.array([_ranked(v, group, verdicts)[1] for v in variants], dtype=np.int64)
                for setting, variants in sweep.items()
            }
            for name, sweep in plan.sweeps.items()
        },
        subsets={size: _subset_accuracy(group, correct, size) for size in plan.sizes},
        chunk_points=_chunk_points(group, whole_chunks, whole.chunk_size),
        growth=tuple(_growth(sets, group.layout.n_neurons) for sets in whole_chunks),
    )


def _ranked(variant: Variant, group: RolloutGroup, verdicts: ProblemVerdicts) -> tuple[Scores, list[int]]:
    """Scores and ranking; what is limited to so many tokens knows of no later one, for breaking ties neither."""
    known = group
    if variant.selector == "majority" and verdicts.answers is not None:
        scores = Majority(agreed_answers([r.text for r in group.rollouts], verdicts.answers).get).score(group)
    elif variant.selector == "behaviour":
        scores = _behaviour(group, verdicts)
    else:
        comparison = _compared(variant, group)
        if comparison.token_limit is not None:
            known = group.beginning(comparison.token_limit)
        scores = get_selector(variant.selector, comparison=comparison, **variant.options).score(known)
    return scores, rank(scores, known)


def _compared(variant: Variant, group: RolloutGroup) -> ComparisonConfig:
    """What a variant compares in a group; a limit counts from the end of a shared start that is left out."""
    comparison = variant.comparison
    if not variant.skip_shared:
        return comparison
    # candidates that are all alike to the end would be left with nothing
    longest = max((len(r) for r in group.rollouts), default=0)
    skip = min(shared_start(group), max(longest - 1, 0))
    if comparison.token_limit is not None:
        comparison = replace(comparison, chunk_size=comparison.token_limit + skip, chunks=1)
    return replace(comparison, skip_tokens=skip)


def _behaviour(group: RolloutGroup, verdicts: ProblemVerdicts) -> Scores:
    """The selector `behaviour` on what scoring has observed; its tie-breaks alone where nothing was."""
    votes = np.zeros(len(group)) if verdicts.behaviour is None else np.array(verdicts.behaviour, dtype=np.float64)
    votes[[not len(r) for r in group.rollouts]] = np.nan
    confidence = np.array([mean_logprob(r) for r in group.rollouts], dtype=np.float64)
    return Scores(votes, (Medoid().score(group).values, confidence))


def _checked(ranking: Sequence[int], examples: Sequence[bool] | None) -> list[int]:
    """The ranking with the candidates that satisfy the examples first."""
    return sorted(ranking, key=lambda i: not examples[i]) if examples is not None else list(ranking)


def _subset_accuracy(group: RolloutGroup, correct: NDArray[np.bool_], size: int) -> NDArray[np.float64]:
    """Share of correct picks among `size` candidates drawn from the N, per selector of `SWEPT`."""
    n, hits = len(group), np.zeros(len(SWEPT))
    subsets: Iterable[Sequence[int]]
    if comb(n, size) <= 2 * _SUBSET_DRAWS:
        subsets = list(combinations(range(n), size))
    else:
        # each problem has its own draws, or the luck of one index would be that of all problems
        rng = np.random.default_rng([size, *hashlib.sha256(group.prompt.encode()).digest()[:8]])
        subsets = [sorted(rng.choice(n, size, replace=False).tolist()) for _ in range(_SUBSET_DRAWS)]
    for members in subsets:
        part = _subgroup(group, np.array(members))
        for place, name in enumerate(SWEPT):
            hits[place] += correct[members[rank(get_selector(name).score(part), part)[0]]]
    return hits / len(subsets)


def _subgroup(group: RolloutGroup, members: NDArray[np.int64]) -> RolloutGroup:
    """Some of the candidates, with what was computed of them and does not depend on the others."""
    part = RolloutGroup([group.rollouts[i] for i in members], group.layout, group.prompt)
    whole = ComparisonConfig()
    similarity_matrix(group, whole)
    for key in (("counts", *whole._window_key), ("similarity", whole.similarity, *whole._window_key)):
        known = group._cache[key]
        if isinstance(known, np.ndarray):
            part._cache[key] = known[np.ix_(members, members)]
        elif isinstance(known, list):
            part._cache[key] = [known[i] for i in members]
    return part


def _chunk_points(group: RolloutGroup, chunks: Sequence[Sequence[NDArray[np.int32]]], size: int) -> NDArray[np.float64]:
    """Neuron count and mean entropy of every whole chunk; a shorter last one would mix in its length."""
    points = [
        (len(ids), float(rollout.entropies[start : start + size].mean(dtype=np.float64)))
        for rollout, sets in zip(group.rollouts, chunks, strict=True)
        for start, ids in zip(range(0, size * len(sets), size), sets, strict=True)
    ]
    return np.array(points, dtype=np.float64).reshape(-1, 2)


def _growth(sets: Sequence[NDArray[np.int32]], n_neurons: int) -> NDArray[np.int64]:
    seen = np.zeros(n_neurons, dtype=bool)
    sizes = []
    for ids in sets:
        seen[ids] = True
        sizes.append(int(seen.sum()))
    return np.array(sizes, dtype=np.int64)
