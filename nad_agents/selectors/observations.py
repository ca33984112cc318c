"""What a selector sees of the candidates' programs: their outcomes on the same inputs, and labels of equal outcomes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BehaviourObserver",
    "InputProposer",
    "ObservedOutcome",
    "ProgramObservations",
    "ProposalObserver",
    "label_outcomes",
    "missing_modules",
]

InputProposer = Callable[[str, Mapping[str, Mapping[str, Any]] | None], Iterable[object]]
"""Function that maps a prompt, and the JSON schema of each parameter by its name (None for a script), to inputs."""


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


class ProposalObserver(BehaviourObserver, Protocol):
    """An object that also runs programs on inputs that a function proposes, such as ``nad_sandbox.BehaviourRunner``."""

    def observe(
        self, answers: Sequence[str], *, prompt: str = "", propose: InputProposer | None = None
    ) -> ProgramObservations:
        """Run the programs in the answers on the same inputs.

        Args:
            answers: The candidates' texts, including prose and code fences.
            prompt: The prompt that the candidates answer.
            propose: Function that proposes all inputs of this call; None leaves the choice to the observer.
        """
        ...


def label_outcomes(outcomes: Sequence[Sequence[ObservedOutcome]]) -> NDArray[np.int64]:
    """Number the programs' outcomes on each input, so that equal numbers on an input mean the same behavior.

    Args:
        outcomes: For each program, its outcome on each input.

    Returns:
        Int64 [programs, inputs]. Numbers on an input count from 0 for outcomes with a result and from -1 downwards for
        failures. What one program does on purpose, such as raising an exception, is a result of all that do the same.
    """
    columns = []
    for on_input in zip(*outcomes, strict=True):
        kinds: list[list[ObservedOutcome]] = []
        known: dict[int, int] = {}
        for outcome in on_input:
            # programs with the same text share their outcomes
            if id(outcome) not in known:
                kind = next((place for place, same in enumerate(kinds) if same[0].matches(outcome)), len(kinds))
                if kind == len(kinds):
                    kinds.append([])
                kinds[kind].append(outcome)
                known[id(outcome)] = kind
        failed = np.array([all(outcome.crashed for outcome in same) for same in kinds])
        labels = np.where(failed, -np.cumsum(failed), np.cumsum(~failed) - 1)
        columns.append(labels[[known[id(outcome)] for outcome in on_input]])
    return np.array(columns, dtype=np.int64).reshape(len(columns), len(outcomes)).T


def missing_modules(outcomes: Sequence[Sequence[ObservedOutcome]]) -> dict[str, int]:
    """Return the modules that the sandbox lacks, each with the number of programs that end because they import it.

    Args:
        outcomes: For each program, its outcome on each input. Outcomes that do not tell such modules count for nothing.
    """
    found = [{getattr(outcome, "missing_module", None) for outcome in row} for row in outcomes]
    names = [name for row in found for name in row if len(row) == 1 and name is not None]
    return {name: names.count(name) for name in sorted(set(names))}
