"""`ScriptedAnswer`: the answer to one prompt of a `ScriptedDecoder`, as a test writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nad_agents.exceptions import ConfigurationError
from nad_agents.rollouts import FinishReason

__all__ = ["ScriptedAnswer"]


@dataclass(frozen=True)
class ScriptedAnswer:
    """The candidates of one prompt and how they rank.

    Attributes:
        candidates: Texts of the candidates in index order, as the model would return them: without the stop string.
        ranking: Candidate indices, best first. None orders the candidates by `scores`, or by index without scores.
        scores: One score per candidate, in index order; higher is better. None spreads them evenly from 1 for the best.
        similarity: N x N similarities of the candidates, from which each one's agreement follows; None leaves both out.
        finish_reason: Why the candidates ended: "stop", or "length" for answers that the token limit cut.
        details: The selector's evidence, JSON-serializable.

    Raises:
        ConfigurationError: There is no candidate, or ranking, scores or similarity do not fit the candidates.
    """

    candidates: Sequence[str]
    ranking: Sequence[int] | None = None
    scores: Sequence[float] | None = None
    similarity: Sequence[Sequence[float]] | None = None
    finish_reason: FinishReason = "stop"
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.candidates)
        if isinstance(self.candidates, str) or not n:
            msg = f"candidates={self.candidates!r}: give a list with the text of at least one candidate"
            raise ConfigurationError(msg)
        if self.ranking is not None and sorted(self.ranking) != list(range(n)):
            msg = f"ranking={list(self.ranking)}: name each of the candidates 0 to {n - 1} once"
            raise ConfigurationError(msg)
        if self.scores is not None and len(self.scores) != n:
            msg = f"scores={list(self.scores)}: give one score for each of the {n} candidates"
            raise ConfigurationError(msg)
        if self.similarity is not None and [len(row) for row in self.similarity] != [n] * n:
            msg = f"similarity must have {n} rows of {n} values"
            raise ConfigurationError(msg)

    @property
    def order(self) -> tuple[int, ...]:
        """Candidate indices, best first."""
        if self.ranking is not None:
            return tuple(self.ranking)
        scores = self.scores
        indices = range(len(self.candidates))
        return tuple(indices if scores is None else sorted(indices, key=lambda i: -scores[i]))

    @property
    def score_values(self) -> tuple[float, ...]:
        """One score per candidate, in index order."""
        if self.scores is not None:
            return tuple(map(float, self.scores))
        n, order = len(self.candidates), self.order
        return tuple(1 - order.index(i) / n for i in range(n))

    def agreement(self, candidate: int) -> float | None:
        """Return the mean similarity of a candidate to the others; None where it is not known."""
        n = len(self.candidates)
        if self.similarity is None or n == 1:
            return None
        row = self.similarity[candidate]
        return (sum(row) - row[candidate]) / (n - 1)
