"""Agreement on behavior: run all candidates' programs on the same inputs, and prefer the most common behavior.

This goes beyond the paper. The outputs of programs can be compared where their texts cannot, and no expected output is
needed (the majority over executed programs of MBR-exec, arXiv 2204.11454, and CodeT, arXiv 2207.10397).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from nad_agents.exceptions import ConfigurationError
from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors.agreement import Medoid
from nad_agents.selectors.base import Scores, SelectorBase, content_order, mean_logprob

__all__ = ["Behaviour", "BehaviourObserver", "ObservedOutcome", "ProgramObservations"]


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
        """Readable descriptions of the inputs."""
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
    """Scores a candidate by the number of candidates whose programs do the same on every input.

    A candidate that fails on every input gets 0, and one without tokens NaN. Ties are broken by the mean similarity of
    activated neurons to all others, if they were recorded, and by mean log-probability. ``details`` holds the
    ``inputs``; under ``groups`` the label of each candidate's group (0 for the largest group that works, None for a
    candidate without tokens); and under ``behaviours`` the ``size`` and the ``outcomes`` of each group as text.

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
                "behaviour runs the candidates' programs and needs to be told where: "
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
        # 1. run the programs, in content order, so that nothing depends on the candidates' positions
        present = [i for i in content_order(group) if len(group.rollouts[i])]
        if not present:
            return Scores(np.full(n, np.nan), details={"inputs": [], "groups": [None] * n, "behaviours": []})
        observed = self.runner.observe([group.rollouts[i].text for i in present], prompt=group.prompt)
        outcomes = dict(zip(present, observed.outcomes, strict=True))
        # 2. group candidates that do the same
        members = group_by_outcome(present, outcomes)
        works = {same[0]: not all(outcome.crashed for outcome in outcomes[same[0]]) for same in members}
        members.sort(key=lambda same: (not works[same[0]], -len(same)))
        # 3. score each candidate by the size of its group
        values = np.full(n, np.nan)
        labels: list[int | None] = [None] * n
        for label, same in enumerate(members):
            values[same] = len(same) if works[same[0]] else 0
            for i in same:
                labels[i] = label
        behaviours = [
            {"size": len(same), "outcomes": [outcome.text for outcome in outcomes[same[0]]]} for same in members
        ]
        details = {"inputs": list(observed.inputs), "groups": labels, "behaviours": behaviours}
        return Scores(values, self._tie_breaks(group), details)

    def _tie_breaks(self, group: RolloutGroup) -> tuple[NDArray[np.float64], ...]:
        confidence = np.array([mean_logprob(r) for r in group.rollouts], dtype=np.float64)
        if any(r.neurons.shape[1] for r in group.rollouts):
            return Medoid(comparison=self.comparison).score(group).values, confidence
        return (confidence,)


def group_by_outcome(candidates: Sequence[int], outcomes: dict[int, Sequence[ObservedOutcome]]) -> list[list[int]]:
    """Group candidates whose programs do the same on every input.

    Each candidate is compared with the first member of each group.

    Args:
        candidates: Indices in the order in which groups are made.
        outcomes: For each candidate, its outcome on each input.

    Returns:
        The indices of each group.
    """
    groups: list[list[int]] = []
    for i in candidates:
        for same in groups:
            if all(a.matches(b) for a, b in zip(outcomes[same[0]], outcomes[i], strict=True)):
                same.append(i)
                break
        else:
            groups.append([i])
    return groups
