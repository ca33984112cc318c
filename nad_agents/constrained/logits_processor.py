"""The logits processor that holds the candidates of one request to a grammar."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import LogitsProcessor

from nad_agents.constrained.finite_numbers import FiniteNumbers
from nad_agents.constrained.token_budget import EndingState, TokenBudget
from nad_agents.exceptions import GenerationError

if TYPE_CHECKING:
    from llguidance import LLExecutor, LLMatcher

__all__ = ["GrammarLogitsProcessor", "mask_executor"]

_WORKERS = max(1, min(32, int(0.8 * (os.cpu_count() or 1))))
"""Threads that compute masks, as many as llguidance uses by default."""


@dataclass
class _GrammarRow:
    """The grammar's view of one candidate."""

    matcher: LLMatcher
    tokens: list[int]
    ended: bool = False
    ending: EndingState = field(default_factory=EndingState)


class GrammarLogitsProcessor(LogitsProcessor):
    """Forbids every token that the grammar does not allow, for the rows of one request.

    Rows leave the batch between steps and keep their order. The processor finds out which ones left from their tokens:
    the remaining rows are a subsequence of the rows of the step before, each one token longer. Rows with the same
    tokens are in the same state, so it does not matter if they are taken for each other.

    Args:
        matcher: A matcher at the start of the grammar.
        end_tokens: Tokens that end a candidate.
        max_new_tokens: Token limit of a candidate.
        token_budget: Completes answers within the token limit.
        finite_numbers: Bounds the numbers of JSON; None for answers that are not JSON.
    """

    def __init__(
        self,
        matcher: LLMatcher,
        end_tokens: Sequence[int],
        max_new_tokens: int,
        token_budget: TokenBudget,
        finite_numbers: FiniteNumbers | None = None,
    ) -> None:
        self._start = matcher
        self._end_tokens = set(end_tokens)
        self._limit = max_new_tokens
        self._token_budget = token_budget
        self._finite_numbers = finite_numbers
        self._prompt_length = -1
        self._rows: list[_GrammarRow] = []
        self._previous_ids: torch.Tensor | None = None

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Set the scores of forbidden tokens to minus infinity, in place, and return them.

        Args:
            input_ids: Int64 [rows, prompt + generated], the live rows.
            scores: Float32 [rows, vocabulary].

        Raises:
            GenerationError: The grammar engine gave up because the schema is too complex.
        """
        ids = input_ids.cpu()
        if self._prompt_length < 0:
            self._prompt_length = ids.shape[1]
            self._rows = [_GrammarRow(self._start.deep_copy(), []) for _ in range(len(ids))]
        else:
            self._advance(ids)
        self._previous_ids = ids
        allowed, rows_with_choice = self._allowed(scores.shape[1])
        for i in rows_with_choice:
            row = self._rows[i]
            if self._finite_numbers is not None:
                self._finite_numbers.restrict(row.tokens, allowed[i])
            remaining = self._limit - len(row.tokens)
            self._token_budget.restrict(row.ending, row.matcher, row.tokens, remaining, allowed[i])
        _forbid(scores, allowed)
        return scores

    def _allowed(self, vocabulary: int) -> tuple[torch.Tensor, list[int]]:
        """Compute which tokens the grammar allows next.

        Returns:
            Bool [rows, vocabulary], all True for a row that has ended; and the rows with more than one allowed token.
        """
        words = np.full((len(self._rows), (vocabulary + 31) // 32), -1, np.int32)
        matchers = [(row.matcher, i) for i, row in enumerate(self._rows) if not row.ended]
        if _WORKERS > 1:
            # several rows in parallel, and without Python's lock
            mask_executor().unsafe_compute_mask_ptr(matchers, words.ctypes.data, words.strides[0], len(words))
        else:
            # a single worker brings no speed-up, and waking it takes many times as long as computing a mask
            for matcher, i in matchers:
                matcher.unsafe_compute_mask_ptr(words.ctypes.data + i * words.strides[0], words.strides[0])
        bits = np.unpackbits(words.view(np.uint8), axis=1, count=vocabulary, bitorder="little")
        several = np.bitwise_count(words.view(np.uint32)).sum(axis=1) > 1
        return torch.from_numpy(bits.view(np.bool_)), [i for _, i in matchers if several[i]]

    def _advance(self, ids: torch.Tensor) -> None:
        """Find out which rows remain, and advance each row's matcher by its new token."""
        assert self._previous_ids is not None
        if len(ids) != len(self._previous_ids) or not torch.equal(ids[:, :-1], self._previous_ids):
            generated = ids[:, self._prompt_length : -1].tolist()
            previous_rows = iter(self._rows)
            self._rows = [next(row for row in previous_rows if row.tokens == tokens) for tokens in generated]
        for row, token in zip(self._rows, ids[:, -1].tolist(), strict=True):
            row.tokens.append(token)
            # a row that has ended stays in the batch until the next compaction, whatever is sampled for it
            row.ended = row.ended or token in self._end_tokens
            if not row.ended and not row.matcher.consume_token(token):
                msg = f"the grammar could not follow a candidate: {row.matcher.get_error() or 'token not allowed'}"
                raise GenerationError(msg)


def _forbid(scores: torch.Tensor, allowed: torch.Tensor) -> None:
    """Set the scores of tokens that are not allowed to minus infinity; the engine passes a copy of the logits."""
    if scores.device.type == "cpu":
        # torch's masked_fill_ takes several times as long
        np.copyto(scores.numpy(), -np.inf, where=~allowed.numpy())
    else:
        scores.masked_fill_(~allowed.to(scores.device), -torch.inf)


@functools.cache
def mask_executor() -> LLExecutor:
    """Return the threads that compute masks, which all requests share."""
    from llguidance import LLExecutor

    return LLExecutor(_WORKERS)
