"""Scored problems as the tables need them, read from a run of `nad bench` or from matrices of similarities.

Matrices stand for a run whose neurons are too large to pass on. With the prefix `FOLDER/NAME` they are, for P problems
with N candidates each:

- `NAME_J1.npz`, `NAME_J2.npz`: the upper triangles of similarities, [P, N (N - 1) / 2]: `J_all` (Jaccard), `WJ`
  (weighted Jaccard of rates), `J_1` (Jaccard after 32 tokens).
- `NAME_signals.npz`: [P, N]: `U_all` and `U_1` (numbers of unique neurons), `len`, `lp_mean`, `ent_mean`.
- `NAME_texts.jsonl.gz`: `texts` and `finish` of each problem.
- `NAME_verdicts.jsonl.gz`: `ok`, `shown` (the prompt's examples, or null), `index` (the program of each candidate),
  `labels` and `crashed` by input and program; or `NAME_verdicts.npz`: `ok` for answers that state a number.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nad_agents.evaluation.answer_matching import canonical_answers, final_answer
from nad_agents.evaluation.measures import RecordedBehaviour
from nad_agents.evaluation.verdicts import ProblemVerdicts, read_verdicts
from nad_agents.neurons.activated_sets import subgroup
from nad_agents.neurons.comparison import ComparisonConfig
from nad_agents.rollouts import NeuronLayout, Rollout, RolloutGroup
from nad_agents.runs import RecordedRun
from nad_agents.selectors import Behaviour, Majority, NADFusion, Scores, Selector, rank

WHOLE = ComparisonConfig()
WEIGHTED = ComparisonConfig(similarity="weighted_jaccard_rates")
FIRST_CHUNK = ComparisonConfig(compare_chunks=1)


@dataclass(eq=False)
class Problem:
    """A scored problem with its candidates.

    Attributes:
        group: The candidates.
        verdicts: Their verdicts.
        programs: Int64 [N], equal for candidates with the same program.
        entropies: Float64 [N], mean entropy per token.
        has_neurons: Whether the neurons of each token are there, and not similarities alone.
    """

    group: RolloutGroup
    verdicts: ProblemVerdicts
    programs: NDArray[np.int64]
    entropies: NDArray[np.float64]
    has_neurons: bool = True
    _kept: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.correct = np.array(self.verdicts.correct, dtype=bool)
        self.tokens = np.array([len(rollout) for rollout in self.group.rollouts])
        self.cut = np.array([rollout.finish_reason == "length" for rollout in self.group.rollouts])
        self.examples = None if self.verdicts.examples is None else np.array(self.verdicts.examples, dtype=bool)

    def __len__(self) -> int:
        return len(self.correct)

    @cached_property
    def outcomes(self) -> NDArray[np.int64] | None:
        """Int64 [N, inputs], what each program does, below 0 for a failure; None without programs."""
        found = self.verdicts.outcomes
        return None if found is None else np.array(found, dtype=np.int64).reshape(len(self), -1)

    @cached_property
    def behaviours(self) -> NDArray[np.int64]:
        """Int64 [N], equal for candidates whose programs do the same on every input."""
        rows = self.programs[:, None] if self.outcomes is None else self.outcomes
        return np.unique(rows, axis=0, return_inverse=True)[1].ravel()

    @cached_property
    def observer(self) -> RecordedBehaviour:
        """What the selector `behaviour` asks about programs; it answers with recorded outcomes and runs none."""
        return RecordedBehaviour(self.group, self.verdicts)

    @cached_property
    def answer_of(self) -> Callable[[str], str | None]:
        """Returns the final answer of a candidate's text."""
        assert self.verdicts.answers is not None
        return canonical_answers([r.text for r in self.group.rollouts], self.verdicts.answers).get

    @cached_property
    def auto(self) -> Selector:
        """The selector that `auto` chooses if there is a runner for code."""
        if self.outcomes is not None:
            return Behaviour(runner=self.observer)
        if self.verdicts.answers is not None:
            return Majority(self.answer_of, weighted=True)
        return NADFusion()

    @property
    def runs_programs(self) -> bool:
        """Whether `auto` runs the candidates' programs."""
        return isinstance(self.auto, Behaviour)

    def part(self, members: Sequence[int], comparison: ComparisonConfig = WHOLE) -> RolloutGroup:
        """Return the group of some candidates, with the similarities that were computed for all."""
        part: RolloutGroup = self._once((tuple(members), comparison), lambda: subgroup(self.group, members, comparison))
        return part

    def scores(self, members: Sequence[int], selector: Selector) -> Scores:
        """Score some of the candidates."""
        part = self.part(members, getattr(selector, "comparison", WHOLE))
        scores: Scores = self._once((tuple(members), selector), lambda: selector.score(part))
        return scores

    def ranking(self, members: Sequence[int], selector: Selector) -> list[int]:
        """Return some of the candidates, best first."""
        if len(members) < 2:
            return list(members)
        part = self.part(members, getattr(selector, "comparison", WHOLE))
        return [members[place] for place in rank(self.scores(members, selector), part)]

    def _once(self, key: Any, compute: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]

    def forget(self) -> None:
        """Drop what was kept of parts of the group."""
        self._kept.clear()


@dataclass(frozen=True)
class Source:
    """What was recorded of one model on one task.

    Attributes:
        title: The model and the task.
        problems: The scored problems.
        run: The run; None for matrices.
        recorded: Number of problems that the benchmark has, as far as it is known.
    """

    title: str
    problems: list[Problem]
    run: RecordedRun | None = None
    recorded: int = 0


def read_source(path: Path) -> Source:
    """Read a run of `nad bench` that is scored, or matrices with the prefix FOLDER/NAME."""
    if (path / "run.json").exists():
        run = RecordedRun(path)
        title = f"{run.manifest.model.get('name')}, {run.manifest.task.get('file')}"
        return Source(title, list(_of_run(run)), run, int(run.manifest.task.get("problems", 0)))
    if path.with_name(f"{path.name}_signals.npz").exists():
        problems = list(_of_matrices(path))
        return Source(path.name, problems, None, len(problems))
    raise SystemExit(f"{path} is neither the folder of a run nor the prefix of matrices such as {path}_signals.npz")


def _of_run(run: RecordedRun) -> Iterator[Problem]:
    verdicts = read_verdicts(run.folder)
    for name in run.problems:
        if name in verdicts:
            group = run.group(name)
            programs = np.unique([rollout.text for rollout in group.rollouts], return_inverse=True)[1].ravel()
            entropies = np.array([r.entropies.mean(dtype=np.float64) if len(r) else np.nan for r in group.rollouts])
            yield Problem(group, verdicts[name], programs, entropies)


def _lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _of_matrices(prefix: Path) -> Iterator[Problem]:
    def named(ending: str) -> Path:
        return prefix.with_name(f"{prefix.name}_{ending}")

    arrays: dict[str, NDArray[Any]] = {}
    for ending in ("J1.npz", "J2.npz", "signals.npz"):
        with np.load(named(ending)) as stored:
            arrays |= {name: stored[name] for name in ("J_all", "J_1", "WJ", *_SIGNALS, "names") if name in stored}
    texts = _lines(named("texts.jsonl.gz"))
    judged: Sequence[Mapping[str, Any] | None] = [None] * len(texts)
    right: NDArray[np.bool_] | None = None
    if named("verdicts.jsonl.gz").exists():
        judged = _lines(named("verdicts.jsonl.gz"))
    else:
        with np.load(named("verdicts.npz")) as stored:
            right = stored["ok"]
    for place, line in enumerate(texts):
        group = _group(arrays, place, line["texts"], line["finish"])
        known = judged[place]
        if known is not None:
            verdicts = _program_verdicts(str(line["id"]), known)
            programs = np.array(known["index"], dtype=np.int64)
        else:
            assert right is not None
            answers = tuple(final_answer(text, "0") for text in line["texts"])
            verdicts = ProblemVerdicts(str(line["id"]), tuple(right[place].tolist()), None, (), answers, "")
            programs = np.arange(len(group))
        yield Problem(group, verdicts, programs, arrays["ent_mean"][place].astype(np.float64), has_neurons=False)


_SIGNALS = ("U_all", "U_1", "len", "lp_mean", "ent_mean")


def _group(arrays: Mapping[str, NDArray[Any]], place: int, texts: Sequence[str], finish: Sequence[str]) -> RolloutGroup:
    """Make candidates that have no neurons, but whose counts and similarities are known."""
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    rollouts = []
    for i, text in enumerate(texts):
        length = int(arrays["len"][place, i])
        signal = np.full(length, arrays["lp_mean"][place, i], dtype=np.float32)
        ids = np.full(length, numbers[text], dtype=np.int64)
        neurons = np.zeros((length, 1), dtype=np.int32)
        rollouts.append(Rollout(i, ids, text, neurons, signal, signal, signal, signal, finish[i]))
    most = int(arrays["U_all"][place].max()) + 1
    group = RolloutGroup(rollouts, NeuronLayout(n_layers=1, d_ff=most))
    for comparison, matrix, counts in (
        (WHOLE, "J_all", "U_all"),
        (WEIGHTED, "WJ", "U_all"),
        (FIRST_CHUNK, "J_1", "U_1"),
    ):
        pairs, n = arrays[matrix][place].astype(np.float64), len(texts)
        similarity = np.eye(n)
        similarity[np.triu_indices(n, 1)] = pairs
        similarity = np.maximum(similarity, similarity.T)
        sets = [(np.arange(count, dtype=np.int32), np.ones(count, dtype=np.int32)) for count in arrays[counts][place]]
        group.cached(comparison.counts_key, lambda sets=sets: sets)
        group.cached(comparison.similarity_key, lambda similarity=similarity: similarity)
    return group


def _program_verdicts(name: str, known: Mapping[str, Any]) -> ProblemVerdicts:
    labels = np.array(known["labels"], dtype=np.int64).reshape(len(known["labels"]), -1)
    failed = np.array(known["crashed"], dtype=bool).reshape(labels.shape)
    rows = np.where(failed, -1 - labels, labels).T[known["index"]] if len(labels) else np.zeros((len(known["ok"]), 0))
    outcomes = tuple(tuple(int(label) for label in row) for row in rows)
    shown = None if known["shown"] is None else tuple(map(bool, known["shown"]))
    return ProblemVerdicts(name, tuple(map(bool, known["ok"])), shown, (), None, "", outcomes)
