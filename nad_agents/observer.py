"""The engine thread's side of a request: what happens to its candidates between two steps of the engine.

The engine's thread alone calls `RequestObserver.max_step` and `RequestObserver.after_step` and writes everything in
the observer. The caller's thread follows it through the event queue and the callbacks while the request runs, and
reads `winner`, `sent_characters` and the policy's decision only once the request has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache

from nad_agents.engine.base import Generation, GenerationRequest
from nad_agents.event_queue import EventQueue, Snapshot
from nad_agents.events import CandidateGrowth, Progress, Pruned, TextDelta, WinnerChosen
from nad_agents.neurons.comparison import ComparisonConfig
from nad_agents.pruning import PruningPolicy
from nad_agents.rollouts import FinishReason

__all__ = ["CandidateTexts", "RequestObserver", "stable_prefix_length"]

_PROGRESS_TOKENS = 8
"""Tokens between two reports of progress."""

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class RequestObserver:
    """Prunes, reports progress, and streams the text of a winner that is decided before the candidates end.

    Args:
        request: The request with all its candidates, whatever the waves in which they are generated.
        policy: Drops candidates at the ends of chunks.
        comparison: How a watching caller's snapshots are compared.
        events: Queue that gets the events if `streaming`.
        streaming: Whether events are collected.
        watch: Whether there are events about every candidate.
        early_winner: Whether the only candidate that pruning has left is the winner, as no verifier follows.
        on_progress: Called with the progress after every step.
        on_rows_freed: Called with the number of candidates that have yet to end, whenever it falls.

    Attributes:
        policy: See above; its `decision` says what was pruned and why.
        winner: The candidate that was decided early; None if there is none.
        sent_characters: Length of the winner's text that has been sent already.
    """

    def __init__(
        self,
        request: GenerationRequest,
        policy: PruningPolicy,
        comparison: ComparisonConfig,
        events: EventQueue,
        *,
        streaming: bool = False,
        watch: bool = False,
        early_winner: bool = True,
        on_progress: Callable[[Progress], None] | None = None,
        on_rows_freed: Callable[[int], None] | None = None,
    ) -> None:
        self.policy = policy
        self.winner: int | None = None
        self.sent_characters = 0
        self._request = request
        self._comparison = comparison
        self._events = events
        self._streaming = streaming
        self._watch = watch
        self._early_winner = early_winner
        self._on_progress = on_progress
        self._on_rows_freed = on_rows_freed
        self._texts = CandidateTexts(request.sampling.stop) if watch else None
        self._remaining = request.sampling.n
        self._generated: dict[int, int] = {}  # tokens by the wave's first candidate

    def max_step(self, generation: Generation) -> int:  # noqa: ARG002 - the protocol's signature
        """Return one token while the winner's text streams, a few tokens if progress is reported, else a chunk."""
        if self._streaming and self.winner is not None:
            return 1
        chunk_size = self._request.chunk_size
        reports = self._streaming or self._on_progress is not None
        return min(_PROGRESS_TOKENS, chunk_size) if reports else chunk_size

    def after_step(self, generation: Generation, *, chunk_ended: bool) -> Collection[int]:
        """Prune at the end of a chunk, then report progress and send the text of a decided winner."""
        group = cache(generation.group)
        # 1. prune; a single survivor may be the winner
        drop: Collection[int] = ()
        if chunk_ended:
            drop = self.policy.after_chunk(generation.live, group)
            self._announce_early_winner()
        live = tuple(i for i in generation.live if i not in drop)
        # 2. report
        self._report_freed_rows(generation.request, len(live))
        self._generated[generation.request.first_candidate] = generation.generated
        growth = self._texts.growth(generation, drop) if self._texts is not None else ()
        progress = Progress(generation.tokens, live, sum(self._generated.values()), growth)
        if self._on_progress is not None:
            self._on_progress(progress)
        if not self._streaming:
            return drop
        self._events.put(progress)
        # 3. tell a watching caller which candidates were dropped and how similar they are
        if self._watch and drop and self.policy.decision is not None:
            self._events.put(Pruned(tuple(drop), generation.tokens, self.policy.decision.ranking))
        if self._watch and chunk_ended and self._request.recording is not None:
            self._events.put_snapshot(Snapshot(group(), generation.tokens, self._comparison))
        # 4. stream the winner
        if self.winner is not None:
            self._send_text(generation.text(self.winner), complete=not live)
        return drop

    def _announce_early_winner(self) -> None:
        decision = self.policy.decision
        decided = decision is not None and self.policy.final and len(decision.keep) == 1
        if decision is not None and decided and self._early_winner and self.winner is None:
            self.winner = decision.keep[0]
            if self._streaming:
                self._events.put(WinnerChosen(self.winner))

    def report_end(self) -> None:
        """Report that no further candidate is generated, although later waves were announced."""
        if self._remaining and self._on_rows_freed is not None:
            self._on_rows_freed(0)
        self._remaining = 0

    def _report_freed_rows(self, wave: GenerationRequest, live: int) -> None:
        in_later_waves = self._request.candidates.stop - wave.candidates.stop
        if live + in_later_waves < self._remaining:
            self._remaining = live + in_later_waves
            if self._on_rows_freed is not None:
                self._on_rows_freed(self._remaining)

    def _send_text(self, text: str, *, complete: bool) -> None:
        end = len(text) if complete else stable_prefix_length(text, self._request.sampling.stop)
        if end > self.sent_characters:
            self._events.put(TextDelta(text[self.sent_characters : end]))
            self.sent_characters = end


class CandidateTexts:
    """Tracks the text of every candidate and reports its growth.

    Args:
        stop: Strings that end a candidate.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = stop
        self._shown: dict[int, int] = {}
        self._ended: set[int] = set()

    def growth(self, generation: Generation, dropped: Collection[int]) -> tuple[CandidateGrowth, ...]:
        """Return what has changed since the last call, for each candidate that had not ended then.

        Args:
            generation: The request in its present state.
            dropped: Candidates that are about to be pruned.
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
    """Return how many characters of a growing text are final: no half character, nothing that may start a stop string.

    Args:
        text: The text so far.
        stop: Strings that end a candidate.
    """
    text = text.rstrip(_REPLACEMENT)
    return len(text) - max((_overlap(text, one) for one in stop), default=0)


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest proper prefix of `stop` that ends `text`."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
