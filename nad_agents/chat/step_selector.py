"""Select among an agent's next steps, counting candidates that take the same step together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nad_agents.chat.edit_steps import step_fault, step_key
from nad_agents.chat.response_parser import ResponseParser
from nad_agents.chat.shown_text import ShownText
from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors import Scores, Selector, rank
from nad_agents.selectors.fusion import rank_share

__all__ = ["StepSelector"]


@dataclass(frozen=True)
class StepSelector:
    """Ranks steps by the votes of the candidates that take the same one; those that cannot be carried out come last.

    A step that looks at what the step before has just shown comes before these only, as it leads nowhere. A vote counts
    by the voter's rank under the other selector, which also decides within a step and wherever no candidate calls a
    tool or edits a file. ``details["steps"]`` holds for each step its ``candidates`` and, where there is one, its
    ``fault``, or ``repeated``.

    Attributes:
        selector: Ranks single candidates.
        parser: Finds the calls in an answer.
        shown: What the conversation has shown.
        schemas: JSON schema of the arguments by the tool's name.
        last_look: What the step before looked at; see `nad_agents.chat.edit_steps.last_look`.
    """

    selector: Selector
    parser: ResponseParser
    shown: ShownText = field(default_factory=lambda: ShownText(()))
    schemas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    last_look: str = ""
    needs_whole_answers: bool = True

    @property
    def name(self) -> str:
        """Name of the other selector."""
        return self.selector.name

    @property
    def needs_neurons(self) -> bool:
        """Whether the other selector reads activated neurons."""
        return self.selector.needs_neurons

    @property
    def min_candidates(self) -> int:
        """Smallest number of candidates that the other selector can compare."""
        return self.selector.min_candidates

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate, in index order."""
        scores = self.selector.score(group)
        steps: dict[str, list[int]] = {}
        faults: dict[int, str] = {}
        for i, rollout in enumerate(group.rollouts):
            parsed = self.parser.parse(rollout.text)
            calls = [(call.name, call.arguments) for call in parsed.calls]
            fault = parsed.invalid[0].error if parsed.invalid else None
            fault = fault or step_fault(parsed.content, calls, shown=self.shown, schemas=self.schemas)
            key = step_key(parsed.content, calls)
            if fault is not None:
                faults[i] = fault
                key = f"fault {i}"
            steps.setdefault(key, []).append(i)
        if not faults and list(steps) in ([], [""]):
            return scores
        order = np.empty(len(group))
        order[rank(scores, group)] = -np.arange(len(group))
        weights = 0.5 + rank_share(order)
        values = np.array(order)
        told: dict[str, dict[str, Any]] = {}
        for key, members in steps.items():
            told[key] = {"candidates": members}
            if members[0] in faults:
                values[members], told[key]["fault"] = -1.0, faults[members[0]]
            elif key and key == self.last_look:
                values[members], told[key]["repeated"] = 0.0, True
            else:
                values[members] = float(np.sort(weights[members]).sum())
        values[np.isnan(scores.values)] = np.nan
        ordered = sorted(told.values(), key=lambda step: (-values[step["candidates"][0]], step["candidates"]))
        ties, details = (scores.values, *scores.tie_breaks), {**scores.details, "steps": ordered}
        return replace(scores, values=values, tie_breaks=ties, details=details)
