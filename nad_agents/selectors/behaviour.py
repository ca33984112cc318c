"""Agreement on behaviour: run all candidates' programs on the same inputs and prefer what most of them do.

Beyond the paper: for code, what programs return is comparable where their texts are not. No expected output is needed
(the majority over executed programs of arXiv 2204.11454, MBR-exec; 2207.10397, CodeT).
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
    """What one program did with one input."""

    @property
    def crashed(self) -> bool:
        """Whether it gave no result."""
        ...

    @property
    def text(self) -> str:
        """For people."""
        ...

    def matches(self, other: Any, /) -> bool:
        """Whether both did the same."""
        ...


class ProgramObservations(Protocol):
    """What all programs did with the same inputs."""

    @property
    def inputs(self) -> Sequence[str]:
        """The inputs, for people."""
        ...

    @property
    def outcomes(self) -> Sequence[Sequence[ObservedOutcome]]:
        """For each answer, in order, its outcome on each input."""
        ...


class BehaviourObserver(Protocol):
    """Runs programs in isolation, such as ``nad_sandbox.BehaviourRunner``."""

    def observe(self, answers: Sequence[str], *, prompt: str = "") -> ProgramObservations:
        """Run the programs in the answers on the same inputs.

        Args:
            answers: candidates' texts, prose and fences included.
            prompt: what they were asked.
        """
        ...


@dataclass(frozen=True)
class Behaviour(SelectorBase):
    """Size of the group of candidates that do the same on every input.

    A candidate that fails on every input scores 0, an empty one NaN. Ties are broken by the mean similarity of
    activated neurons to all others, where they were recorded, and by mean log-probability. ``details`` holds the
    ``inputs``, for each candidate its ``groups`` label (0 for the largest group that works, None for an empty
    candidate), and under ``behaviours`` for each label the ``size`` and the ``outcomes`` as text.

    Attributes:
        runner: runs the programs.
    """

    name: ClassVar[str] = "behaviour"
    min_candidates: ClassVar[int] = 2
    needs_whole_answers: ClassVar[bool] = True

    runner: BehaviourObserver | None = None

    def __post_init__(self) -> None:
        """Check that there is something to run programs with.

        Raises:
            ConfigurationError: there is no runner.
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
            Exception: whatever the runner raises when it cannot run programs.
        """
        assert self.runner is not None
        n = len(group)
        # 1. run them, in content order, so that nothing depends on the candidates' positions
        present = [i for i in content_order(group) if len(group.rollouts[i])]
        if not present:
            return Scores(np.full(n, np.nan), details={"inputs": [], "groups": [None] * n, "behaviours": []})
        observed = self.runner.observe([group.rollouts[i].text for i in present], prompt=group.prompt)
        outcomes = dict(zip(present, observed.outcomes, strict=True))
        # 2. group those that do the same
        members = group_alike(present, outcomes)
        works = {same[0]: not all(outcome.crashed for outcome in outcomes[same[0]]) for same in members}
        members.sort(key=lambda same: (not works[same[0]], -len(same)))
        # 3. the size of the group is the score
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


def group_alike(candidates: Sequence[int], outcomes: dict[int, Sequence[ObservedOutcome]]) -> list[list[int]]:
    """Put each candidate with the first before it that does the same on every input."""
    groups: list[list[int]] = []
    for i in candidates:
        for same in groups:
            if all(a.matches(b) for a, b in zip(outcomes[same[0]], outcomes[i], strict=True)):
                same.append(i)
                break
        else:
            groups.append([i])
    return groups
