"""Present a generation whose candidates grow in another process, each at its own pace, as if all grew in step.

vLLM, or a server, schedules the candidates itself, and continues while the engine's thread reads their tokens. Callers
see a view in which every live candidate has `tokens` tokens. Tokens beyond these are shown later, or never if the
candidate is dropped, so the end of a chunk means the same as with every other engine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nad_agents.engine.base import GenerationRequest
from nad_agents.rollouts import FinishReason, NeuronLayout, Rollout, RolloutGroup

__all__ = ["CandidateState", "CandidateText", "StreamedGeneration"]


@dataclass(eq=False)
class CandidateState:
    """The output generated so far for one candidate.

    Attributes:
        external_id: The id with which the engine submitted the candidate to the backend.
        request_id: The id that the backend derived from the external one.
        token_ids: All the candidate's tokens so far.
        logprobs: The tokens' log-probabilities in nats.
        neurons: int32 [T', k] parts in the order of arrival; T' sums to at most the number of tokens.
        signals: float32 [T', 3] parts: entropy, self-certainty and confidence.
        finish_reason: Why the backend ended the candidate; "running" if it has not.
        ended: Number of tokens and reason with which the candidate has ended for its caller; None while it is live.
    """

    external_id: str = ""
    request_id: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    neurons: list[NDArray[np.int32]] = field(default_factory=list)
    signals: list[NDArray[np.float32]] = field(default_factory=list)
    finish_reason: FinishReason = "running"
    ended: tuple[int, FinishReason] | None = None

    @property
    def taken(self) -> int:
        """Number of tokens whose neurons and signals have been fetched."""
        return sum(len(part) for part in self.signals)

    def add_recorded(self, recorded: dict[str, Any]) -> None:
        """Append the neurons and signals recorded since the last call; see `WorkerRecorder.take`."""
        tokens = recorded["tokens"]
        if tokens:
            self.neurons.append(np.frombuffer(recorded["neurons"], np.int32).reshape(tokens, -1))
            self.signals.append(np.frombuffer(recorded["signals"], np.float32).reshape(tokens, 3))


class CandidateText(Protocol):
    """Decodes the tokens of a candidate to text."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of a candidate's tokens, cut before the first stop string."""
        ...

    def pieces(self, tokens: Sequence[int]) -> tuple[str, ...]:
        """Return the text of each token where no tokenizer knows the tokens; nothing otherwise."""
        ...


class StreamedGeneration:
    """A request that the engine is working on; see `nad_agents.engine.base.Generation`.

    Args:
        request: The request.
        layout: Numbering of the recorded neurons.
        text: Decodes the candidates.
        take: Function that fetches the neurons and signals of some candidates if they do not come with the tokens.

    Attributes:
        request: See above.
        candidates: The output generated so far, by candidate.
        error: The error that ended the generation early; None if there was none.
        tokens: Number of tokens that each live candidate shows.
        prefill_seconds: Seconds until every candidate had its first token.
        cached_tokens: Number of prompt tokens that an earlier request had left in the backend's cache.
        prompt_tokens: Number of prompt tokens as the backend counts them; None if it does not report the number.
    """

    def __init__(
        self,
        request: GenerationRequest,
        layout: NeuronLayout,
        text: CandidateText,
        take: Callable[[StreamedGeneration, Collection[int]], None],
    ) -> None:
        self.request = request
        self.candidates = {candidate: CandidateState() for candidate in request.candidates}
        self.error: Exception | None = None
        self.tokens = 0
        self.prefill_seconds = 0.0
        self.cached_tokens = 0
        self.prompt_tokens: int | None = None
        self._layout = layout
        self._text = text
        self._take = take
        self._joined = time.perf_counter()
        self._without_token = set(request.candidates)

    @property
    def live(self) -> Sequence[int]:
        """Indices of the candidates that are still generating."""
        return [candidate for candidate, state in self.candidates.items() if state.ended is None]

    @property
    def generated(self) -> int:
        """Number of tokens of all candidates that are shown so far."""
        return sum(self._length(candidate) for candidate in self.candidates)

    @property
    def ready(self) -> int:
        """Number of tokens that every live candidate could show now."""
        live = [self.candidates[candidate] for candidate in self.live]
        running = [len(state.token_ids) for state in live if state.finish_reason == "running"]
        return min(running) if running else max((len(state.token_ids) for state in live), default=self.tokens)

    @property
    def all_finished(self) -> bool:
        """Whether the backend has ended every live candidate, or the generation has failed."""
        return self.error is not None or all(
            self.candidates[candidate].finish_reason != "running" for candidate in self.live
        )

    def receive(
        self, candidate: int, token_ids: Sequence[int], logprobs: Sequence[float], finish_reason: FinishReason
    ) -> None:
        """Append output that the backend has generated for a candidate.

        Args:
            candidate: The candidate.
            token_ids: The candidate's new tokens.
            logprobs: The new tokens' log-probabilities in nats.
            finish_reason: Why the candidate ended with these tokens; "running" if it did not.
        """
        state = self.candidates[candidate]
        state.token_ids += token_ids
        state.logprobs += logprobs
        state.finish_reason = finish_reason
        if self._without_token:
            self._without_token.discard(candidate)
            self.prefill_seconds = time.perf_counter() - self._joined

    def advance(self, max_tokens: int) -> None:
        """Show up to `max_tokens` further tokens of every live candidate, and end those that have no more."""
        self.tokens = max(self.tokens, min(self.tokens + max_tokens, self.ready))
        for candidate in self.live:
            state = self.candidates[candidate]
            if state.finish_reason != "running" and len(state.token_ids) <= self.tokens:
                state.ended = (len(state.token_ids), state.finish_reason)

    def prune(self, candidates: Collection[int]) -> list[CandidateState]:
        """End live candidates because the caller drops them; return those that the backend still works on."""
        dropped = [self.candidates[candidate] for candidate in candidates if candidate in self.live]
        for state in dropped:
            state.ended = (min(self.tokens, len(state.token_ids)), "pruned")
        return [state for state in dropped if state.finish_reason == "running"]

    def group(self) -> RolloutGroup:
        """Return every candidate in its current state, in index order."""
        self._take(self, [i for i, state in self.candidates.items() if state.taken < self._length(i)])
        return RolloutGroup([self._rollout(i) for i in self.candidates], self._layout, self.request.prompt)

    def token_ids(self, candidate: int) -> list[int]:
        """Return the tokens of a candidate so far, the end token included."""
        return self.candidates[candidate].token_ids[: self._length(candidate)]

    def text(self, candidate: int) -> str:
        """Return the text of a candidate so far, cut before the first stop string."""
        return self._text.decode(self.token_ids(candidate))

    def finish_reason(self, candidate: int) -> FinishReason:
        """Return why a candidate ended, or "running" while it is still generating."""
        ended = self.candidates[candidate].ended
        return "running" if ended is None else ended[1]

    def _length(self, candidate: int) -> int:
        state = self.candidates[candidate]
        return min(self.tokens, len(state.token_ids)) if state.ended is None else state.ended[0]

    def _rollout(self, candidate: int) -> Rollout:
        state, length = self.candidates[candidate], self._length(candidate)
        # a backend that records no signals has none of any token
        signals = np.concatenate(state.signals)[:length] if state.signals else np.full((length, 3), np.nan, np.float32)
        logprobs = np.array(state.logprobs[:length], np.float32)
        pieces = self._text.pieces(self.token_ids(candidate))
        without = np.isnan(logprobs)
        if pieces and not without.all():
            # what a server gives no log-probability of, such as thinking, does not change the mean
            logprobs[without] = logprobs[~without].mean()
        neurons = np.concatenate(state.neurons) if state.neurons else np.empty((length, 0), np.int32)
        return Rollout(
            index=candidate,
            token_ids=np.array(state.token_ids[:length], np.int64),
            text=self.text(candidate),
            neurons=neurons[:length],
            logprobs=logprobs,
            entropies=np.ascontiguousarray(signals[:, 0]),
            self_certainties=np.ascontiguousarray(signals[:, 1]),
            confidences=np.ascontiguousarray(signals[:, 2]),
            finish_reason=self.finish_reason(candidate),
            pieces=pieces,
        )
