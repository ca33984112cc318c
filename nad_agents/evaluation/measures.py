"""Measure single problems: every selector's ranking and scores, and the raw signals behind the report's findings."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from math import comb
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from nad_agents.confidence import estimate_confidence
from nad_agents.evaluation.answer_matching import canonical_answers
from nad_agents.evaluation.plan import Plan
from nad_agents.evaluation.variants import SweepName, Variant
from nad_agents.evaluation.verdicts import ProblemVerdicts, read_verdicts
from nad_agents.neurons.activated_sets import chunk_sets, similarity_matrix, subgroup, unique_counts
from nad_agents.neurons.comparison import ComparisonConfig
from nad_agents.rollouts import RolloutGroup
from nad_agents.runs import RecordedRun, RunError
from nad_agents.selectors import Scores, Selector, get_selector, rank
from nad_agents.types import BEHAVIOUR_SELECTORS

__all__ = ["ProblemMeasures", "measure_problem", "measure_run", "shared_start"]

_SUBSET_DRAWS = 20
"""Random subsets per number of candidates."""


@dataclass(frozen=True)
class ProblemMeasures:
    """The measures of one problem with N candidates under V standard variants.

    Attributes:
        problem: The problem's id.
        correct: Bool [N].
        examples: Bool [N], whether a candidate satisfies the prompt's examples; None if it has none.
        tokens: Int64 [N], number of generated tokens.
        shared: Number of tokens with which all candidates begin alike.
        cut: Bool [N], whether the token limit ended the candidate.
        seconds: Time of generating all candidates, prompt included; NaN if it was not recorded.
        counts: Int64 [N], unique activated neurons.
        entropies: Float64 [N], mean entropy.
        similarity: Float64 [N, N], Jaccard similarity of the activated sets.
        scores: Float64 [V, N], each variant's scores.
        rankings: Int64 [V, N], each variant's candidates, best first.
        milliseconds: Float64 [V], time of each variant's scores and ranking, starting from activated neurons per token.
        sweeps: Rankings, int64 [variants, N], by what is varied and its setting.
        subsets: Share of correct picks by number of candidates, float64 [variants in `Plan.followed`] each.
        chunk_points: Float64 [chunks of all candidates, 2], neuron count and mean entropy of each whole chunk.
        growth: For each candidate its number of unique neurons after each whole chunk.
        confidence: Estimated probability that the candidate which `auto` picks is right; NaN if there is no estimate.
        confident_pick: The candidate that `auto` picks.
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
    confidence: float = np.nan
    confident_pick: int = 0


def measure_run(run: RecordedRun, plan: Plan, *, workers: int = 1) -> list[ProblemMeasures]:
    """Measure every problem that is recorded and scored, in the order of recording.

    Args:
        run: The run.
        plan: What to measure.
        workers: Number of processes. Each process imports the calling script, so a script that asks for more than one
            must do its own work under ``if __name__ == "__main__"``.

    Raises:
        RunError: A record is damaged, or nothing is scored.
    """
    verdicts = read_verdicts(run.folder)
    todo = [problem for problem in run.problems if problem in verdicts]
    if not todo:
        msg = f"{run.folder} is not scored yet; score it with `nad report {run.folder}`"
        raise RunError(msg)
    if workers == 1:
        return [_measure(run, plan, problem, verdicts[problem]) for problem in todo]
    # spawned, because a fork would copy the locks that a loaded model's threads may hold
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(partial(_measure, run, plan), todo, [verdicts[p] for p in todo], chunksize=4))


def _measure(run: RecordedRun, plan: Plan, problem: str, verdicts: ProblemVerdicts) -> ProblemMeasures:
    seconds = run.header(problem)["seconds"]
    took = sum(seconds[phase] for phase in ("prefill", "decode") if phase in seconds) or np.nan
    return measure_problem(run.group(problem), verdicts, plan, seconds=took)


def shared_start(group: RolloutGroup) -> int:
    """Return the number of tokens with which all non-empty candidates begin alike; 0 for fewer than two candidates."""
    sequences = [rollout.token_ids for rollout in group.rollouts if len(rollout)]
    if len(sequences) < 2:
        return 0
    shortest = min(map(len, sequences))
    same = np.all(np.stack([s[:shortest] for s in sequences]) == sequences[0][:shortest], axis=0)
    return int(shortest if same.all() else np.argmin(same))


def measure_problem(
    group: RolloutGroup, verdicts: ProblemVerdicts, plan: Plan, *, seconds: float = np.nan
) -> ProblemMeasures:
    """Measure one problem.

    Args:
        group: The problem's candidates.
        verdicts: Whether each candidate is correct.
        plan: What to measure.
        seconds: Time of generating all candidates.

    Raises:
        RunError: The number of verdicts differs from the number of candidates.
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
        # a new group without cached results, so that variants' times can be compared
        alone = RolloutGroup(group.rollouts, group.layout, group.prompt)
        started = time.perf_counter()
        given, ranking = _rank_variant(variant, alone, verdicts)
        milliseconds.append(1000 * (time.perf_counter() - started))
        if variant.checked:
            ranking = _examples_first(ranking, verdicts.examples)
        scores.append(-np.argsort(ranking).astype(np.float64) if variant.checked else given.values)
        rankings.append(ranking)
    whole = ComparisonConfig()
    chunks = [chunk_sets(group, i, whole) for i in range(len(group))]
    whole_chunks = [sets[: len(r) // whole.chunk_size] for sets, r in zip(chunks, group.rollouts, strict=True)]
    confidence, confident_pick = _confidence(group, verdicts)
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
                setting: np.array([_rank_variant(v, group, verdicts)[1] for v in variants], dtype=np.int64)
                for setting, variants in sweep.items()
            }
            for name, sweep in plan.sweeps.items()
        },
        subsets={size: _subset_accuracy(group, verdicts, plan, size) for size in plan.sizes},
        chunk_points=_chunk_points(group, whole_chunks, whole.chunk_size),
        growth=tuple(_growth(sets, group.layout.n_neurons) for sets in whole_chunks),
        confidence=confidence,
        confident_pick=confident_pick,
    )


def _rank_variant(variant: Variant, group: RolloutGroup, verdicts: ProblemVerdicts) -> tuple[Scores, list[int]]:
    """Score and rank the candidates under a variant.

    A variant limited to a number of tokens sees no later token, not even to break ties.
    """
    comparison = _effective_comparison(variant, group)
    known = group
    if comparison.token_limit is not None:
        known = group.beginning(comparison.token_limit)
    scores = _selector(variant, comparison, group, verdicts).score(known)
    return scores, rank(scores, known)


def _selector(
    variant: Variant, comparison: ComparisonConfig, group: RolloutGroup, verdicts: ProblemVerdicts
) -> Selector:
    """Make a variant's selector; one that compares answers or runs programs gets the results of scoring instead."""
    options = dict(variant.options)
    if variant.selector == "majority" and verdicts.answers is not None:
        options["extractor"] = canonical_answers([r.text for r in group.rollouts], verdicts.answers).get
    elif variant.selector in BEHAVIOUR_SELECTORS:
        options["runner"] = RecordedBehaviour(group, verdicts)
    return get_selector(variant.selector, comparison=comparison, **options)


@dataclass(frozen=True)
class RecordedOutcome:
    """A program's outcome on one input, as the number that scoring stored; see `ProblemVerdicts.outcomes`."""

    label: int

    @property
    def crashed(self) -> bool:
        """Whether the program failed to give a result."""
        return self.label < 0

    @property
    def text(self) -> str:
        """The number."""
        return str(self.label)

    def matches(self, other: RecordedOutcome) -> bool:
        """Return whether the other program had the same outcome."""
        return self.label == other.label


@dataclass(frozen=True)
class RecordedObservations:
    """The programs' outcomes that scoring stored."""

    inputs: tuple[str, ...]
    outcomes: tuple[tuple[RecordedOutcome, ...], ...]


class RecordedBehaviour:
    """Returns the stored outcomes of a scored problem's candidates, in place of a runner that would run them again.

    Args:
        group: The problem's candidates.
        verdicts: The verdicts of scoring, which may include observed outcomes.
    """

    def __init__(self, group: RolloutGroup, verdicts: ProblemVerdicts) -> None:
        outcomes = verdicts.outcomes or ((),) * len(group)
        rows = zip(group.rollouts, outcomes, strict=True)
        self._by_text = {rollout.text: tuple(map(RecordedOutcome, row)) for rollout, row in rows}
        self._inputs = tuple(f"input {i}" for i in range(max(map(len, outcomes), default=0)))

    def observe(self, answers: Sequence[str], *, prompt: str = "") -> RecordedObservations:
        """Return the stored outcomes of the programs in the answers."""
        del prompt
        return RecordedObservations(self._inputs, tuple(self._by_text[answer] for answer in answers))


def _effective_comparison(variant: Variant, group: RolloutGroup) -> ComparisonConfig:
    """Return the comparison of a variant in a group; a token limit counts from the end of a skipped shared start."""
    comparison = variant.comparison
    if not variant.skip_shared:
        return comparison
    # candidates that are all alike to the end keep their last token
    longest = max((len(r) for r in group.rollouts), default=0)
    skip = min(shared_start(group), max(longest - 1, 0))
    if comparison.token_limit is not None:
        comparison = replace(comparison, chunk_size=comparison.token_limit + skip, compare_chunks=1)
    return replace(comparison, skip_tokens=skip)


def _confidence(group: RolloutGroup, verdicts: ProblemVerdicts) -> tuple[float, int]:
    """Return the confidence in the candidate that `auto` picks with a runner, and that candidate."""
    name = (
        "behaviour" if verdicts.outcomes is not None else "majority" if verdicts.answers is not None else "nad_fusion"
    )
    variant = Variant(name, name, options={"weighted": True} if name == "majority" else {})
    scores, ranking = _rank_variant(variant, group, verdicts)
    ranking = _examples_first(ranking, verdicts.examples)
    if not ranking:
        return np.nan, 0
    passed = None if verdicts.examples is None else verdicts.examples[ranking[0]]
    found = estimate_confidence(name, scores.votes, ranking[0], passed=passed)
    return np.nan if found is None else found, ranking[0]


def _examples_first(ranking: Sequence[int], examples: Sequence[bool] | None) -> list[int]:
    """Return the ranking with the candidates that satisfy the examples first."""
    return sorted(ranking, key=lambda i: not examples[i]) if examples is not None else list(ranking)


def _subset_accuracy(group: RolloutGroup, verdicts: ProblemVerdicts, plan: Plan, size: int) -> NDArray[np.float64]:
    """Return the share of correct picks among `size` candidates drawn from the N, for each followed variant."""
    correct = np.array(verdicts.correct, dtype=bool)
    n, hits = len(group), np.zeros(len(plan.followed))
    subsets: Iterable[Sequence[int]]
    if comb(n, size) <= 2 * _SUBSET_DRAWS:
        subsets = list(combinations(range(n), size))
    else:
        # drawn anew for each problem, because a lucky candidate index would otherwise favor all problems
        rng = np.random.default_rng([size, *hashlib.sha256(group.prompt.encode()).digest()[:8]])
        subsets = [sorted(rng.choice(n, size, replace=False).tolist()) for _ in range(_SUBSET_DRAWS)]
    selectors = [_selector(variant, variant.comparison, group, verdicts) for variant in plan.followed]
    for members in subsets:
        # similarities that were computed for the whole group also hold for its parts
        parts: dict[ComparisonConfig, RolloutGroup] = {}
        for index, (variant, selector) in enumerate(zip(plan.followed, selectors, strict=True)):
            comparison = variant.comparison
            if comparison not in parts:
                parts[comparison] = subgroup(group, members, comparison)
            part = parts[comparison]
            ranking = rank(selector.score(part), part)
            if variant.checked:
                within = None if verdicts.examples is None else [verdicts.examples[i] for i in members]
                ranking = _examples_first(ranking, within)
            hits[index] += correct[members[ranking[0]]]
    return hits / len(subsets)


def _chunk_points(group: RolloutGroup, chunks: Sequence[Sequence[NDArray[np.int32]]], size: int) -> NDArray[np.float64]:
    """Return neuron count and mean entropy of every whole chunk; a shorter last chunk would add a length effect."""
    points = [
        (len(ids), float(rollout.entropies[start : start + size].mean(dtype=np.float64)))
        for rollout, sets in zip(group.rollouts, chunks, strict=True)
        for start, ids in zip(range(0, size * len(sets), size), sets, strict=True)
    ]
    return np.array(points, dtype=np.float64).reshape(-1, 2)


def _growth(sets: Sequence[NDArray[np.int32]], n_neurons: int) -> NDArray[np.int64]:
    """Return the number of unique neurons after each chunk."""
    seen = np.zeros(n_neurons, dtype=bool)
    sizes = []
    for ids in sets:
        seen[ids] = True
        sizes.append(int(seen.sum()))
    return np.array(sizes, dtype=np.int64)
