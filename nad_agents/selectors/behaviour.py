"""Agreement on behavior: run all candidates' programs on the same inputs, and prefer the most common behavior.

This goes beyond the paper. The outputs of programs can be compared where their texts cannot, and no expected output is
needed (minimum Bayes risk over executed programs: MBR-exec, arXiv 2204.11454). `behaviour` counts on how many inputs
candidates agree; `behaviour_groups` counts only candidates that agree on every input, which one odd input breaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from nad_agents.exceptions import ConfigurationError
from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors.base import Scores, SelectorBase, content_order
from nad_agents.selectors.fusion import NADFusion

__all__ = [
    "Behaviour",
    "BehaviourGroups",
    "BehaviourObserver",
    "ObservedOutcome",
    "ProgramObservations",
    "label_outcomes",
]


class ObservedOutcome(Protocol):
    """The outcome of one program on one input."""

    @property
    def crashed(self) -> bool:
        """Whether the program gave no result."""
        ...

    @property
    def text(self) -> str:
        """Readable description of the outcome."""
        ...

    def matches(self, other: Any, /) -> bool:
        """Return whether the other program did the same."""
        ...


class ProgramObservations(Protocol):
    """The outcomes of all programs on the same inputs."""

    @property
    def inputs(self) -> Sequence[str]:
        """Readable descriptions of the inputs; empty if nothing that the programs do can be observed."""
        ...

    @property
    def outcomes(self) -> Sequence[Sequence[ObservedOutcome]]:
        """For each answer, in order, its outcome on each input."""
        ...


class BehaviourObserver(Protocol):
    """An object that runs programs in isolation, such as ``nad_sandbox.BehaviourRunner``."""

    def observe(self, answers: Sequence[str], *, prompt: str = "") -> ProgramObservations:
        """Run the programs in the answers on the same inputs.

        Args:
            answers: The candidates' texts, including prose and code fences.
            prompt: The prompt that the candidates answer.
        """
        ...


@dataclass(frozen=True)
class Behaviour(SelectorBase):
    """Scores a candidate by the share of the others that do the same as its program, averaged over the inputs.

    A candidate that fails on an input agrees with no other there. A candidate without tokens gets NaN. Ties are broken
    by the ranks by agreement and log-probability (`NADFusion`), which decide alone where nothing can be observed.
    ``details`` holds the ``inputs``; under ``groups`` the label of the group of candidates that agree on every input
    (0 for the largest group that works, None for a candidate without tokens); and under ``behaviours`` the ``size``
    and the ``outcomes`` of each group as text. Without observations all three are empty, and ``note`` says so.

    Attributes:
        runner: Runs the programs.
    """

    name: ClassVar[str] = "behaviour"
    min_candidates: ClassVar[int] = 2
    needs_whole_answers: ClassVar[bool] = True

    runner: BehaviourObserver | None = None

    def __post_init__(self) -> None:
        """Check that there is a runner for the programs.

        Raises:
            ConfigurationError: There is no runner.
        """
        if not hasattr(self.runner, "observe"):
            msg = (
                f"{self.name} runs the candidates' programs and needs to be told where: "
                "give selector_options={'runner': nad_sandbox.BehaviourRunner(sandbox)}"
            )
            raise ConfigurationError(msg)

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate, in index order.

        Raises:
            Exception: Anything that the runner raises if it cannot run programs.
        """
        assert self.runner is not None
        n = len(group)
        values = np.full(n, np.nan)
        # 1. run the programs, in content order, so that nothing depends on the candidates' positions
        present = [i for i in content_order(group) if len(group.rollouts[i])]
        if not present:
            return Scores(values, details={"inputs": [], "groups": [None] * n, "behaviours": []})
        observed = self.runner.observe([group.rollouts[i].text for i in present], prompt=group.prompt)
        evidence = NADFusion(comparison=self.comparison).score(group)
        if not observed.inputs:
            nothing = {"inputs": [], "groups": [], "behaviours": [], "note": NOTHING_OBSERVED}
            return Scores(evidence.values, evidence.tie_breaks, nothing)
        # 2. count the agreement on each input
        labels = label_outcomes(observed.outcomes)
        values[present] = self.score_labels(labels)
        note = {} if (labels >= 0).any() else {"note": NOTHING_WORKS}
        # 3. group candidates with the same behavior, as evidence
        members: dict[tuple[int, ...], list[int]] = {}
        for place, row in enumerate(labels.tolist()):
            members.setdefault(tuple(row), []).append(place)
        ordered = sorted(members.items(), key=lambda item: (max(item[0]) < 0, -len(item[1])))
        groups: list[int | None] = [None] * n
        for label, (_, same) in enumerate(ordered):
            for place in same:
                groups[present[place]] = label
        behaviours = [
            {"size": len(same), "outcomes": [outcome.text for outcome in observed.outcomes[same[0]]]}
            for _, same in ordered
        ]
        details = {"inputs": list(observed.inputs), "groups": groups, "behaviours": behaviours, **note}
        votes = np.full((n, labels.shape[1]), -1, dtype=np.int64)
        votes[present] = labels
        return Scores(values, (evidence.values, *evidence.tie_breaks), details, votes=votes)

    def score_labels(self, labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score candidates by their programs' behavior.

        Args:
            labels: Int64 [candidates, inputs], as `label_outcomes` returns them.

        Returns:
            Float64 [candidates].
        """
        same = (labels[:, None, :] == labels[None, :, :]) & (labels >= 0)[:, None, :]
        agreeing = same.sum(axis=(1, 2)) - (labels >= 0).sum(axis=1)
        return np.asarray(agreeing / (max(len(labels) - 1, 1) * labels.shape[1]), dtype=np.float64)


@dataclass(frozen=True)
class BehaviourGroups(Behaviour):
    """Scores a candidate by the number of candidates whose programs do the same on every input, itself included.

    A candidate that fails on every input gets 0. Everything else is as for `Behaviour`.
    """

    name: ClassVar[str] = "behaviour_groups"

    def score_labels(self, labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score candidates by their programs' behavior; see `Behaviour.score_labels`."""
        same = (labels[:, None, :] == labels[None, :, :]).all(axis=2).sum(axis=1)
        return np.where((labels >= 0).any(axis=1), same, 0).astype(np.float64)


NOTHING_OBSERVED = "nothing that the programs do can be observed, so they are ranked by agreement and log-probability"
NOTHING_WORKS = "no program gives a result on any input, so they are ranked by agreement and log-probability"


def label_outcomes(outcomes: Sequence[Sequence[ObservedOutcome]]) -> NDArray[np.int64]:
    """Number the programs' outcomes on each input, so that equal numbers on an input mean the same behavior.

    Args:
        outcomes: For each program, its outcome on each input.

    Returns:
        Int64 [programs, inputs]. Numbers on an input count from 0 for outcomes with a result and from -1 downwards for
        failures.
    """
    columns = []
    for on_input in zip(*outcomes, strict=True):
        kinds: list[tuple[ObservedOutcome, int]] = []
        known: dict[int, int] = {}
        for outcome in on_input:
            # programs with the same text share their outcomes
            if id(outcome) not in known:
                label = next((label for first, label in kinds if first.matches(outcome)), None)
                if label is None:
                    crashed = sum(label < 0 for _, label in kinds)
                    label = -1 - crashed if outcome.crashed else len(kinds) - crashed
                    kinds.append((outcome, label))
                known[id(outcome)] = label
        columns.append([known[id(outcome)] for outcome in on_input])
    return np.array(columns, dtype=np.int64).reshape(len(columns), len(outcomes)).T
