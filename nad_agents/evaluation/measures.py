"""What is measured of one problem: every selector's ranking and scores, and the raw signals."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nad_agents.activated_sets import ComparisonConfig, chunk_sets, similarity_matrix, unique_counts
from nad_agents.evaluation.variants import Variant, position_variants, standard_variants, width_variants
from nad_agents.evaluation.verdicts import ProblemVerdicts, read_verdicts
from nad_agents.rollouts import RolloutGroup
from nad_agents.runs import Run, RunError
from nad_agents.selectors import get_selector, rank

__all__ = ["Plan", "ProblemMeasures", "measure_problem", "measure_run", "shared_start"]

_SUBSET_SELECTORS = ("knn", "medoid", "min_act", "mean_logprob", "deepconf", "nad_fusion")
_SUBSET_DRAWS = 20


@dataclass(frozen=True)
class Plan:
    """What to measure; the same for every problem of a run.

    Attributes:
        standard: the variants of the main table.
        positions: variants by the number of tokens after which they select.
        widths: variants by neurons per token.
        sizes: numbers of candidates, each smaller than N, that are drawn from the N.
    """

    standard: tuple[Variant, ...]
    positions: dict[int, list[Variant]] = field(default_factory=dict)
    widths: dict[int, list[Variant]] = field(default_factory=dict)
    sizes: tuple[int, ...] = ()

    @classmethod
    def for_run(cls, run: Run) -> Plan:
        """Everything that the recording allows.

        Raises:
            RunError: nothing is recorded, or without neurons.
        """
        if not run.problems:
            msg = f"{run.folder} has no complete problem yet; wait for the first, or resume the recording"
            raise RunError(msg)
        head = run.head(run.problems[0])
        blocks = [s for s in head["sections"] if s["name"].startswith("neurons/")]
        if not blocks:
            msg = f"{run.folder} was recorded without neurons; record it again with the recorder on"
            raise RunError(msg)
        layout, n = head["layout"], len(head["candidates"])
        return cls(
            standard=tuple(
                standard_variants(
                    first_layer=layout["first_layer"],
                    n_layers=layout["n_layers"],
                    answers=head["task"].get("kind") == "answer",
                )
            ),
            positions=position_variants(),
            widths=width_variants(blocks[0]["shape"][1]),
            sizes=tuple(size for size in (2, 4, 8, 16, 32, 64) if size < n),
        )


@dataclass(frozen=True)
class ProblemMeasures:
    """One problem; N candidates, V standard variants.

    Attributes:
        problem: its id.
        correct: bool [N].
        examples: bool [N], whether a candidate satisfies the prompt's examples; None where it has none.
        tokens: int64 [N].
        cut: bool [N], ended by the token limit.
        counts: int64 [N], unique activated neurons.
        entropies: float64 [N], mean entropy.
        similarity: float64 [N, N], Jaccard of the activated sets.
        scores: float64 [V, N], each variant's scores.
        rankings: int64 [V, N], candidates best first.
        positions: by number of tokens, int64 [variants, N] rankings.
        widths: by neurons per token, likewise.
        subsets: by number of candidates, share of correct picks, float64 [selectors].
        chunk_points: float64 [chunks of all candidates, 2], neuron count and mean entropy of each whole chunk.
        growth: per candidate its unique neurons after each chunk.
    """

    problem: str
    correct: NDArray[np.bool_]
    examples: NDArray[np.bool_] | None
    tokens: NDArray[np.int64]
    cut: NDArray[np.bool_]
    counts: NDArray[np.int64]
    entropies: NDArray[np.float64]
    similarity: NDArray[np.float64]
    scores: NDArray[np.float64]
    rankings: NDArray[np.int64]
    positions: dict[int, NDArray[np.int64]]
    widths: dict[int, NDArray[np.int64]]
    subsets: dict[int, NDArray[np.float64]]
    chunk_points: NDArray[np.float64]
    growth: tuple[NDArray[np.int64], ...]


def measure_run(run: Run, plan: Plan, *, workers: int = 1) -> list[ProblemMeasures]:
    """Measure every problem that is recorded and scored, in the order of recording.

    Args:
        run: the run.
        plan: what to measure.
        workers: processes.

    Raises:
        RunError: a record is damaged, or nothing is scored.
    """
    verdicts = read_verdicts(run.folder)
    todo = [problem for problem in run.problems if problem in verdicts]
    if not todo:
        msg = f"{run.folder} is not scored yet; score it with `nad report {run.folder}`"
        raise RunError(msg)
    if workers == 1:
        return [measure_problem(run.group(p), verdicts[p], plan) for p in todo]
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(partial(_measure, run.folder, plan), todo, [verdicts[p] for p in todo], chunksize=4))


def _measure(folder: Path, plan: Plan, problem: str, verdicts: ProblemVerdicts) -> ProblemMeasures:
    return measure_problem(Run(folder).group(problem), verdicts, plan)


def shared_start(group: RolloutGroup) -> int:
    """The number of tokens with which all non-empty candidates begin alike."""
    sequences = [rollout.token_ids for rollout in group.rollouts if len(rollout)]
    if len(sequences) < 2:
        return 0
    shortest = min(map(len, sequences))
    same = np.all(np.stack([s[:shortest] for s in sequences]) == sequences[0][:shortest], axis=0)
    return int(shortest if same.all() else np.argmin(same))


def measure_problem(group: RolloutGroup, verdicts: ProblemVerdicts, plan: Plan) -> ProblemMeasures:
    """Measure one problem; see `ProblemMeasures`."""
    correct = np.array(verdicts.correct, dtype=bool)
    # every candidate of a group that begins alike would be left with nothing if it ended there
    longest = max((len(r) for r in group.rollouts), default=0)
    skip = min(shared_start(group), max(longest - 1, 0))

    def judged(variants: Sequence[Variant]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        scores, rankings = [], []
        for variant in variants:
            comparison = variant.comparison
            if variant.skip_shared:
                comparison = replace(comparison, skip_tokens=skip)
            given = get_selector(variant.selector, comparison=comparison, **variant.options).score(group)
            scores.append(given.values)
            rankings.append(rank(given, group))
        return np.array(scores, dtype=np.float64), np.array(rankings, dtype=np.int64)

    scores, rankings = judged(plan.standard)
    whole = ComparisonConfig()
    chunks = [chunk_sets(group, i, whole) for i in range(len(group))]
    return ProblemMeasures(
        problem=verdicts.problem,
        correct=correct,
        examples=None if verdicts.examples is None else np.array(verdicts.examples, dtype=bool),
        tokens=np.array([len(r) for r in group.rollouts], dtype=np.int64),
        cut=np.array([r.finish_reason == "length" for r in group.rollouts], dtype=bool),
        counts=unique_counts(group, whole),
        entropies=np.array([r.entropies.mean(dtype=np.float64) if len(r) else np.nan for r in group.rollouts]),
        similarity=similarity_matrix(group, whole),
        scores=scores,
        rankings=rankings,
        positions={tokens: judged(variants)[1] for tokens, variants in plan.positions.items()},
        widths={k: judged(variants)[1] for k, variants in plan.widths.items()},
        subsets={size: _subset_accuracy(group, correct, size) for size in plan.sizes},
        chunk_points=_chunk_points(group, chunks, whole.chunk_size),
        growth=tuple(_growth(sets, group.layout.n_neurons) for sets in chunks),
    )


def _subset_accuracy(group: RolloutGroup, correct: NDArray[np.bool_], size: int) -> NDArray[np.float64]:
    """Share of correct picks among `size` candidates drawn from the N, per selector."""
    rng = np.random.default_rng(size)
    hits = np.zeros(len(_SUBSET_SELECTORS))
    for _ in range(_SUBSET_DRAWS):
        members = np.sort(rng.choice(len(group), size, replace=False))
        part = _subgroup(group, members)
        for place, name in enumerate(_SUBSET_SELECTORS):
            hits[place] += correct[members[rank(get_selector(name).score(part), part)[0]]]
    return hits / _SUBSET_DRAWS


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
        for start, ids in zip(range(0, len(rollout) - size + 1, size), sets, strict=False)
    ]
    return np.array(points, dtype=np.float64).reshape(-1, 2)


def _growth(sets: Sequence[NDArray[np.int32]], n_neurons: int) -> NDArray[np.int64]:
    seen = np.zeros(n_neurons, dtype=bool)
    sizes = []
    for ids in sets:
        seen[ids] = True
        sizes.append(int(seen.sum()))
    return np.array(sizes, dtype=np.int64)
