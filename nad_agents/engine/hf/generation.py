"""One generation of the Hugging Face engine: its rows, the tokens drawn so far, and its rollouts.

The steps that the engine takes at a time become one segment in host memory, whose rows are the candidates that were
live then. A rollout is put together from the segments.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Hashable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LogitsProcessorList, StoppingCriteriaList
from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria, StopStringCriteria
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from nad_agents.engine.answer_text import AnswerText
from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf.sampling import CandidateStreams, TokenSampler, TopLogits
from nad_agents.exceptions import GenerationError
from nad_agents.rollouts import FinishReason, NeuronLayout, Rollout, RolloutGroup

__all__ = ["HFGeneration"]

_SIGNALS = ("logprobs", "entropies", "self_certainties", "confidences")

_ROOM = 32
"""Number of steps for which memory is allocated at once."""


@dataclass(frozen=True)
class _Segment:
    """Consecutive steps with the same rows: S steps, R rows."""

    candidates: tuple[int, ...]
    tokens: NDArray[np.int64]  # [S, R]
    signals: NDArray[np.float32]  # [4, S, R]
    neurons: NDArray[np.int32]  # [S, R, k]


@dataclass(eq=False)
class HFGeneration:
    """A request that the engine is working on; see `nad_agents.engine.base.Generation`.

    Attributes:
        request: The request.
        layout: Numbering of the recorded neurons.
        tokenizer: Decodes the candidates.
        processors: The request's logits processors.
        criteria: The request's stopping criteria.
        sequences: int64 [R, prompt + generated], the live rows.
        waits: Whether the host may wait for the device in every step; see `TokenSampler`.
        prefill_seconds: Seconds that the prefill took.
        cached_tokens: Number of prompt tokens that the prefill did not read, since an earlier prompt began with them.
        error: The error that ended the generation early; None if there was none.
        prompt_tokens: Always None, since the request's ids are the prompt's tokens.
        tokens: Number of tokens that each live candidate has generated.
        live: Indices of the candidates that have a row in the batch, in the order of their rows.
        rows_before_compaction: Number of rows before the last call of `compact`.
    """

    request: GenerationRequest
    layout: NeuronLayout
    tokenizer: PreTrainedTokenizerBase
    processors: LogitsProcessorList
    criteria: StoppingCriteriaList
    sequences: torch.LongTensor
    waits: bool
    prefill_seconds: float
    cached_tokens: int = 0
    error: Exception | None = None
    prompt_tokens: int | None = None
    tokens: int = 0
    live: tuple[int, ...] = ()
    rows_before_compaction: int = 0
    _ended: dict[int, tuple[int, FinishReason]] = field(default_factory=dict)
    _segments: list[_Segment] = field(default_factory=list)
    _sequence_room: torch.Tensor | None = None
    _drawn: int = 0
    _failed_token: int = 0
    _new_neurons: list[NDArray[np.int32]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Seed the candidates' random streams, set up the sampler, and sort the stopping criteria."""
        sampling = self.request.sampling
        self.live = tuple(self.request.candidates)
        self._streams = CandidateStreams(self.request.candidate_seeds())
        self.sampler = TokenSampler(self.processors, greedy=sampling.temperature == 0, waits=self.waits)
        self._prompt_length = self.sequences.shape[1]
        # the length is the same for all rows, so the host knows it
        lengths = [criterion.max_length for criterion in self.criteria if isinstance(criterion, MaxLengthCriteria)]
        self._max_length = min(lengths, default=None)
        self._stopping = [criterion for criterion in self.criteria if not isinstance(criterion, MaxLengthCriteria)]
        ends_by_token = all(type(criterion) is EosTokenCriteria for criterion in self._stopping)
        self.end_tokens: Hashable = (
            tuple(tuple(criterion.eos_token_id.tolist()) for criterion in self._stopping) if ends_by_token else None
        )
        self._reads_sequences = not ends_by_token or self.sampler.key is None
        self._answer_text = AnswerText(
            self.tokenizer,
            self.request.prompt_ids,
            stop=sampling.stop,
            visible_tokens=self.request.visible_tokens,
        )

    @property
    def finished_rows(self) -> int:
        """Number of rows in the batch whose candidate has ended."""
        return sum(candidate in self._ended for candidate in self.live)

    @property
    def must_stop(self) -> bool:
        """Whether another step would be of no use, as the generation has failed or every row has ended."""
        return self.error is not None or 0 < len(self.live) == self.finished_rows

    @property
    def generated(self) -> int:
        """Number of tokens generated by all candidates."""
        return sum(self._ended.get(i, (self.tokens, ""))[0] for i in self.request.candidates)

    @property
    def steps_left(self) -> int:
        """Number of steps after which the candidates are at their token limit."""
        return sys.maxsize if self._max_length is None else self._max_length - self._prompt_length - self.tokens

    def uniforms(self, steps: int) -> torch.Tensor:
        """Return the random numbers of the next steps, float32 [steps, R] in [0, 1) on the host; zeros when greedy."""
        if self.sampler.greedy:
            return torch.zeros(steps, len(self.live))
        return self._streams.between(self.tokens, self.tokens + steps, self.live)

    def draw(self, logits: torch.Tensor, uniforms: torch.Tensor, top_logits: TopLogits) -> torch.Tensor:
        """Draw a token for every row of this generation and of others whose sampler has the same key.

        Args:
            logits: float32 [R, vocabulary].
            uniforms: float32 [R] in [0, 1).
            top_logits: The largest logits of each row.

        Returns:
            int64 [R].
        """
        try:
            return self.sampler.draw(self.sequences, logits, uniforms, top_logits)
        except Exception as error:
            if self.sampler.key is not None:
                raise
            # a processor is the caller's code; its failure must not end others
            if self.error is None:
                self.error, self._failed_token = error, self._drawn + 1
            return logits.argmax(-1)

    def follow(self, tokens: torch.Tensor) -> None:
        """Append tokens to the sequences of the rows, int64 [R], if a processor or stopping criterion reads them."""
        self._drawn += 1
        if self._reads_sequences:
            self._append(tokens[None])

    def stopped(self, tokens: torch.Tensor) -> torch.Tensor | None:
        """Return which rows end with the token that they have just got.

        Args:
            tokens: int64 [R], the tokens of this generation and of others with the same `end_tokens`.

        Returns:
            bool [R]; None if nothing but the token limit ends a row.
        """
        stopped: torch.Tensor | None = None
        for criterion in self._stopping:
            # a stop string counts in the answer only, not where prompt and answer meet
            start = self._prompt_length if isinstance(criterion, StopStringCriteria) else 0
            sequences = tokens[:, None] if self.end_tokens is not None else self.sequences[:, start:]
            found = criterion(cast("torch.LongTensor", sequences), None)
            stopped = found if stopped is None else stopped | found
        return stopped

    def note_ends(self, stopped: NDArray[np.bool_]) -> None:
        """Note which candidates have ended in the steps since the last call.

        Steps after the last end of all are forgotten.

        Args:
            stopped: bool [S, R], the results of `stopped`.
        """
        before = self.tokens
        self.tokens += len(stopped)
        for row in np.flatnonzero(stopped.any(axis=0)).tolist():
            self._ended.setdefault(self.live[row], (before + int(stopped[:, row].argmax()) + 1, "stop"))
        if self.steps_left == 0:
            for candidate in self.live:
                self._ended.setdefault(candidate, (self.tokens, "length"))
        if self.finished_rows == len(self.live):
            self.tokens = max(self._ended[candidate][0] for candidate in self.live)
            if self.tokens < self._failed_token:
                self.error = None

    def add_neurons(self, ids: NDArray[np.int32]) -> None:
        """Keep the neuron ids of the last steps, int32 [steps, R, k]."""
        self._new_neurons.append(ids)

    def settle(self, tokens: NDArray[np.int64], signals: NDArray[np.float32], tokens_on_device: torch.Tensor) -> None:
        """Keep the steps that were taken together; set `error` if any of their logits was NaN.

        Args:
            tokens: int64 [S, R].
            signals: float32 [4, S, R].
            tokens_on_device: The same as `tokens`.
        """
        steps = len(tokens) - (self._drawn - self.tokens)
        neurons = np.concatenate(self._new_neurons) if self._new_neurons else np.empty((*tokens.shape, 0), np.int32)
        self._segments.append(_Segment(self.live, tokens[:steps].copy(), signals[:, :steps].copy(), neurons[:steps]))
        if not self._reads_sequences:
            self._append(tokens_on_device)
        self._drawn, self._new_neurons = self.tokens, []
        if self.error is None and np.isnan(signals[1, :steps]).any():
            self.error = GenerationError(
                "the model gave logits that are not numbers (NaN): its weights are damaged or its dtype is too narrow; "
                "load it with dtype='float32'"
            )

    def prune(self, candidates: Collection[int]) -> None:
        """End live candidates because the caller drops them."""
        for candidate in candidates:
            if candidate in self.live and candidate not in self._ended:
                self._ended[candidate] = (self.tokens, "pruned")

    def compact(self) -> torch.Tensor:
        """Remove rows that have ended; return the rows that stay, as int64 indices into the rows before."""
        self.rows_before_compaction = len(self.live)
        rows = [row for row, candidate in enumerate(self.live) if candidate not in self._ended]
        stay = torch.tensor(rows, dtype=torch.long)
        if len(rows) < len(self.live):
            self.sequences = cast("torch.LongTensor", self.sequences[stay.to(self.sequences.device)])
            self._sequence_room = None
            self.live = tuple(self.live[row] for row in rows)
        return stay

    def token_ids(self, candidate: int) -> list[int]:
        """Return the tokens of a candidate so far, the end token included."""
        return [int(token) for token in self._column(candidate, "tokens")]

    def text(self, candidate: int) -> str:
        """Return the text of a candidate so far, cut before the first stop string."""
        return self._answer_text.decode(self.token_ids(candidate))

    def finish_reason(self, candidate: int) -> FinishReason:
        """Return why a candidate ended, or "running" while it is still generating."""
        return self._ended.get(candidate, (0, "running"))[1]

    def group(self) -> RolloutGroup:
        """Return every candidate in its present state, in index order."""
        return RolloutGroup([self._rollout(i) for i in self.request.candidates], self.layout, self.request.prompt)

    def _append(self, tokens: torch.Tensor) -> None:
        """Append tokens, int64 [S, R], to the sequences, whose memory is allocated for many steps at once."""
        rows, length = self.sequences.shape
        end = length + len(tokens)
        if self._sequence_room is None or len(self._sequence_room) != rows or self._sequence_room.shape[1] < end:
            self._sequence_room = self.sequences.new_empty(rows, end + _ROOM)
            self._sequence_room[:, :length] = self.sequences
        self._sequence_room[:, length:end] = tokens.T
        self.sequences = cast("torch.LongTensor", self._sequence_room[:, :end])

    def _column(self, candidate: int, name: str) -> NDArray[np.generic]:
        """Return all steps of one candidate: its tokens [T], signals [T, 4] or neurons [T, k]."""
        length = self._ended.get(candidate, (self.tokens, ""))[0]
        parts = []
        for segment in self._segments:
            if candidate not in segment.candidates:
                break
            values = getattr(segment, name)
            row = segment.candidates.index(candidate)
            parts.append(values[:, :, row].T if name == "signals" else values[:, row])
        return np.concatenate(parts)[:length] if parts else self._empty(name)

    def _empty(self, name: str) -> NDArray[np.generic]:
        if name == "tokens":
            return np.empty(0, np.int64)
        return np.empty((0, 4), np.float32) if name == "signals" else np.empty((0, 0), np.int32)

    def _rollout(self, candidate: int) -> Rollout:
        columns = self._column(candidate, "signals").astype(np.float32)
        signals: dict[str, Any] = {name: np.ascontiguousarray(columns[:, i]) for i, name in enumerate(_SIGNALS)}
        tokens = self._column(candidate, "tokens").astype(np.int64)
        return Rollout(
            index=candidate,
            token_ids=tokens,
            text=self._answer_text.decode(tokens.tolist()),
            neurons=self._column(candidate, "neurons").astype(np.int32, copy=False),
            finish_reason=self.finish_reason(candidate),
            **signals,
        )
