"""One generation of the Hugging Face engine: its rows, the tokens drawn so far, and its rollouts.

Tokens and signals of the latest steps stay on the device; `HFGeneration.settle` moves them to host memory as one
segment, whose rows are the candidates that were live then. A rollout is put together from the segments.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LogitsProcessorList, StoppingCriteriaList
from transformers.generation.stopping_criteria import MaxLengthCriteria, StopStringCriteria
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf.sampling import CandidateStreams, TokenSampler, TopLogits
from nad_agents.engine.hf.signals import TokenSignals
from nad_agents.exceptions import GenerationError
from nad_agents.rollouts import FinishReason, NeuronLayout, Rollout, RolloutGroup

__all__ = ["HFGeneration"]

_SIGNALS = ("logprobs", "entropies", "self_certainties", "confidences")


_CONTEXT = 8
"""Number of the prompt's last tokens with which a candidate is decoded."""

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
class _UnsettledSteps:
    """Tokens and signals of the steps that are still on the device, R rows.

    Their memory is allocated for many steps at once: small tensors that stay, allocated between logits that are
    freed, would fragment the C library's heap until the next logits find no place in it.
    """

    tokens: torch.Tensor  # int64 [room, R]
    signals: torch.Tensor  # float32 [4, room, R]
    steps: int = 0

    @classmethod
    def allocate(cls, rows: int, device: torch.device) -> _UnsettledSteps:
        return cls(
            torch.empty(_ROOM, rows, dtype=torch.long, device=device), torch.empty(4, _ROOM, rows, device=device)
        )

    def add(self, tokens: torch.Tensor, *signals: torch.Tensor) -> None:
        if self.steps == len(self.tokens):
            self.tokens = torch.cat([self.tokens, torch.empty_like(self.tokens)])
            self.signals = torch.cat([self.signals, torch.empty_like(self.signals)], dim=1)
        self.tokens[self.steps] = tokens
        torch.stack(signals, out=self.signals[:, self.steps])
        self.steps += 1


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
    prefill_seconds: float
    cached_tokens: int = 0
    error: Exception | None = None
    prompt_tokens: int | None = None
    tokens: int = 0
    live: tuple[int, ...] = ()
    rows_before_compaction: int = 0
    _ended: dict[int, tuple[int, FinishReason]] = field(default_factory=dict)
    _segments: list[_Segment] = field(default_factory=list)
    _unsettled: _UnsettledSteps | None = None
    _sequence_room: torch.Tensor | None = None
    _new_neurons: list[NDArray[np.int32]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Seed the candidates' random streams and set up the sampler."""
        sampling = self.request.sampling
        self.live = tuple(self.request.candidates)
        self._streams = CandidateStreams(self.request.candidate_seeds())
        self._sampler = TokenSampler(self.processors, greedy=sampling.temperature == 0)
        self._prompt_length = self.sequences.shape[1]
        visible = self.request.visible_tokens
        added = self.tokenizer.added_tokens_decoder.items() if visible else ()
        self._hidden_tokens = {i for i, token in added if token.special and i not in visible}
        # at the beginning of a text, SentencePiece tokenizers leave out the space that a token stands for
        self._context = self.sequences[0, -_CONTEXT:].tolist() if len(self.sequences) else []
        self._context_text = self._plain_text(self._context)

    @property
    def width(self) -> int:
        """Number of largest logits that a draw needs; 0 if it needs all of them or none."""
        return self._sampler.width

    @property
    def finished_rows(self) -> int:
        """Number of rows in the batch whose candidate has ended."""
        return sum(candidate in self._ended for candidate in self.live)

    @property
    def must_stop(self) -> bool:
        """Whether another step would be of no use, as the generation has failed or every row has ended."""
        return self.error is not None or self.finished_rows == len(self.live)

    @property
    def generated(self) -> int:
        """Number of tokens generated by all candidates."""
        return sum(self._ended.get(i, (self.tokens, ""))[0] for i in self.request.candidates)

    def accept(self, logits: torch.Tensor, top_logits: TopLogits, signals: TokenSignals, part: slice) -> None:
        """Draw the next token of every row and note which candidates have ended with it.

        Args:
            logits: float32 [B, vocabulary], the logits of the whole batch.
            top_logits: The largest logits of each row of the batch.
            signals: Token-level signals computed from `logits`.
            part: This generation's rows in the batch.
        """
        if not self.live:
            return
        # 1. draw
        logits = logits[part]
        uniforms = None if self._sampler.greedy else self._streams.at(self.tokens, self.live).to(logits.device)
        own = TopLogits(top_logits.scores[part], top_logits.ids[part])
        try:
            tokens = self._sampler.draw(self.sequences, logits, uniforms, own)
        except Exception as error:  # noqa: BLE001 - a processor is the caller's code; its failure must not end others
            self.error = self.error or error
            tokens = logits.argmax(-1)
        # 2. keep the token, its log-probability and the signals
        logprobs = logits.gather(-1, tokens[:, None]).squeeze(-1) - signals.log_normalizer[part]
        if self._unsettled is None:
            self._unsettled = _UnsettledSteps.allocate(len(self.live), logits.device)
        self._unsettled.add(
            tokens, logprobs, signals.entropy[part], signals.self_certainty[part], signals.confidence[part]
        )
        self.sequences = self._append(tokens)
        self.tokens += 1
        # 3. note the candidates that have ended
        for candidate, reason in zip(self.live, self._finish_reasons(), strict=True):
            if reason != "running" and candidate not in self._ended:
                self._ended[candidate] = (self.tokens, reason)

    def recent_tokens(self, steps: int) -> torch.Tensor:
        """Return the last `steps` tokens of the rows in the batch, int64 [steps, R]."""
        assert self._unsettled is not None
        return self._unsettled.tokens[self._unsettled.steps - steps : self._unsettled.steps]

    def add_neurons(self, ids: torch.Tensor) -> None:
        """Keep the neuron ids of the last steps, int32 [steps, R, k]."""
        self._new_neurons.append(ids.cpu().numpy())

    def settle(self) -> None:
        """Move the steps since the last call to host memory; set `error` if any of their logits was NaN."""
        if self._unsettled is None:
            return
        steps, rows = self._unsettled.steps, len(self.live)
        signals = self._unsettled.signals[:, :steps].cpu().numpy()
        neurons = np.concatenate(self._new_neurons) if self._new_neurons else np.empty((steps, rows, 0), np.int32)
        self._segments.append(_Segment(self.live, self._unsettled.tokens[:steps].cpu().numpy(), signals, neurons))
        self._unsettled, self._new_neurons = None, []
        if self.error is None and np.isnan(signals[1]).any():
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
        return self._decode(self.token_ids(candidate))

    def finish_reason(self, candidate: int) -> FinishReason:
        """Return why a candidate ended, or "running" while it is still generating."""
        return self._ended.get(candidate, (0, "running"))[1]

    def group(self) -> RolloutGroup:
        """Return every candidate in its present state, in index order."""
        return RolloutGroup([self._rollout(i) for i in self.request.candidates], self.layout, self.request.prompt)

    def _append(self, tokens: torch.Tensor) -> torch.LongTensor:
        """Return the sequences with one more token; their memory too is allocated for many steps at once."""
        rows, length = self.sequences.shape
        if self._sequence_room is None or len(self._sequence_room) != rows or self._sequence_room.shape[1] <= length:
            self._sequence_room = self.sequences.new_empty(rows, length + _ROOM)
            self._sequence_room[:, :length] = self.sequences
        self._sequence_room[:, length] = tokens
        return cast("torch.LongTensor", self._sequence_room[:, : length + 1])

    def _finish_reasons(self) -> list[FinishReason]:
        """Return for each row why it ends with its last token; "running" if it does not."""
        stopped, at_length = [False] * len(self.live), False
        for criterion in self.criteria:
            if isinstance(criterion, MaxLengthCriteria):
                at_length |= self.sequences.shape[1] >= criterion.max_length
                continue
            # a stop string counts in the answer only, not where prompt and answer meet
            start = self._prompt_length if isinstance(criterion, StopStringCriteria) else 0
            found = criterion(cast("torch.LongTensor", self.sequences[:, start:]), None).tolist()
            stopped = [before or now for before, now in zip(stopped, found, strict=True)]
        return ["stop" if now else "length" if at_length else "running" for now in stopped]

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
        signals = self._column(candidate, "signals").astype(np.float32)
        tokens = self._column(candidate, "tokens").astype(np.int64)
        return Rollout(
            index=candidate,
            token_ids=tokens,
            text=self._decode(tokens.tolist()),
            neurons=self._column(candidate, "neurons").astype(np.int32, copy=False),
            finish_reason=self.finish_reason(candidate),
            **{name: np.ascontiguousarray(signals[:, i]) for i, name in enumerate(_SIGNALS)},
        )

    def _decode(self, tokens: list[int]) -> str:
        text = self._plain_text([*self._context, *tokens]) if self._context_text else ""
        if self._context_text and text.startswith(self._context_text):
            text = text[len(self._context_text) :]
        else:
            text = self._plain_text(tokens)
        cuts = [at for stop in self.request.sampling.stop if (at := text.find(stop)) >= 0]
        return text[: min(cuts)] if cuts else text

    def _plain_text(self, tokens: list[int]) -> str:
        """Return the text of tokens, without the special tokens that the request does not ask for."""
        if self.request.visible_tokens:
            return str(self.tokenizer.decode([token for token in tokens if token not in self._hidden_tokens]))
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))
