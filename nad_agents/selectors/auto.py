"""The default selector, which chooses another selector by the kind of the candidates' answers."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import ClassVar

from nad_agents.exceptions import ConfigurationError
from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors.base import Scores, Selector, SelectorBase
from nad_agents.selectors.behaviour import Behaviour
from nad_agents.selectors.confidence import MeanLogprob
from nad_agents.selectors.fusion import NADFusion
from nad_agents.selectors.observations import BehaviourObserver
from nad_agents.selectors.voting import Majority, stated

__all__ = ["Auto"]

_CODE = re.compile(r"^ *```(?:python|py)\b|^(?:async )?def \w+\(|^class \w+", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True)
class Auto(SelectorBase):
    """Chooses the best selector for the answers: execution for code, a vote for stated answers, else agreement.

    - If at least half of the candidates contain Python and there is a runner: `Behaviour`.
    - If at least half of the candidates state an answer that can be compared, such as a boxed one: `Majority` with
      ``stated`` answers and weighted votes.
    - Otherwise the ranks by neuron agreement and log-probability: `NADFusion`. If the engine shows no neurons, the mean
      log-probability alone: `MeanLogprob`.

    Beginnings of answers, between which early stopping chooses, are always compared by the last of these.

    Attributes:
        runner: Runs programs, such as ``nad_sandbox.BehaviourRunner(sandbox)``; None runs no code.
    """

    name: ClassVar[str] = "auto"

    runner: BehaviourObserver | None = None

    def __post_init__(self) -> None:
        """Check the option."""
        if self.runner is not None and not hasattr(self.runner, "observe"):
            msg = f"auto: runner={self.runner!r} has no method observe; give nad_sandbox.BehaviourRunner(sandbox)"
            raise ConfigurationError(msg)

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate, in index order; the scores name the selector that was chosen."""
        chosen = self.choose(group)
        scores = chosen.score(group)
        return replace(scores, selector=chosen.name)

    def choose(self, group: RolloutGroup) -> Selector:
        """Return the selector for a group."""
        texts = [rollout.text for rollout in group.rollouts if rollout.text.strip()]
        code = sum(_CODE.search(text) is not None for text in texts)
        if len(texts) > 1 and 2 * code >= len(texts):
            if self.runner is not None:
                return Behaviour(runner=self.runner, comparison=self.comparison)
        elif len(texts) > 1 and 2 * sum(stated(text) is not None for text in texts) >= len(texts):
            return Majority(extractor="stated", weighted=True, comparison=self.comparison)
        if group.layout.n_layers == 0:
            return MeanLogprob(comparison=self.comparison)
        return NADFusion(comparison=self.comparison)
