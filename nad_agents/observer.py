"""For callers who watch a request: every candidate's text as it grows, and how alike the candidates are so far."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from nad_agents.engine.base import Generation
from nad_agents.events import CandidateGrowth, Compared
from nad_agents.neurons.activated_sets import ComparisonConfig, similarity_matrix, unique_counts
from nad_agents.rollouts import FinishReason, RolloutGroup

__all__ = ["CandidateTexts", "Snapshot", "stable_prefix_length"]

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Snapshot:
    """The candidates at the end of a chunk, taken on the engine's thread, to be compared on another.

    Attributes:
        group: the candidates.
        tokens: of each live one.
        comparison: how they are compared.
    """

    group: RolloutGroup
    tokens: int
    comparison: ComparisonConfig

    def compare(self) -> Compared:
        """How alike they are; takes milliseconds, which the engine should not wait for."""
        matrix = similarity_matrix(self.group, self.comparison)
        counts = unique_counts(self.group, self.comparison)
        return Compared(self.tokens, tuple(tuple(map(float, row)) for row in matrix), tuple(map(int, counts)))


class CandidateTexts:
    """Says what each candidate has grown by since the last look.

    Args:
        stop: strings that end a candidate.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = stop
        self._shown: dict[int, int] = {}
        self._ended: set[int] = set()

    def growth(self, generation: Generation, dropped: Collection[int]) -> tuple[CandidateGrowth, ...]:
        """What changed, by candidate.

        Args:
            generation: as it stands.
            dropped: candidates that are about to be pruned.
        """
        found = []
        for candidate in generation.request.candidates:
            if candidate in self._ended:
                continue
            reason: FinishReason = "pruned" if candidate in dropped else generation.finish_reason(candidate)
            text, shown = generation.text(candidate), self._shown.get(candidate, 0)
            end = stable_prefix_length(text, self._stop) if reason == "running" else len(text)
            self._shown[candidate] = max(shown, end)
            if reason != "running":
                self._ended.add(candidate)
            tokens = len(generation.token_ids(candidate))
            found.append(CandidateGrowth(candidate, text[shown:end], tokens, reason))
        return tuple(found)


def stable_prefix_length(text: str, stop: Sequence[str]) -> int:
    """How much of a growing text stays as it is: not half a character, not what may become a stop string."""
    text = text.rstrip(_REPLACEMENT)
    return len(text) - max((_overlap(text, one) for one in stop), default=0)


def _overlap(text: str, stop: str) -> int:
    """Length of the longest proper prefix of `stop` that ends `text`."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
