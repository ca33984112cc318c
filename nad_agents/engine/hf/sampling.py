"""Draw tokens, with a random stream for each candidate.

A candidate's stream depends on nothing but its own seed (see `GenerationRequest.candidate_seeds`). So candidate i is
the same however many others there are and whichever of them are dropped, and the global random state is neither read
nor changed.

With top-k sampling only the k likeliest tokens can be drawn, so transformers' own warpers run on those alone: sorting a
vocabulary of 150,000 entries for top-p would take a third of a small model's step.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, cast

import torch
from transformers import LogitsProcessor
from transformers.generation.logits_process import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

__all__ = ["CandidateStreams", "TokenSampler", "TopLogits", "sample_tokens"]

_BLOCK = 64
"""Numbers drawn from each stream at a time."""

_TIES = 32
"""Tokens fetched beyond top_k, as top-k keeps every token that ties with the k-th."""

_MANY_TIES = 1000
"""The same where the host does not look whether more tokens tie; in bfloat16, with its 8 bits, dozens do."""

_LOCAL_WARPERS = (EpsilonLogitsWarper, EtaLogitsWarper, MinPLogitsWarper, TopPLogitsWarper, TypicalLogitsWarper)
"""Warpers that treat a token of probability 0 as if it were absent."""

_ROW_WARPERS = (TemperatureLogitsWarper, TopKLogitsWarper, *_LOCAL_WARPERS)
"""Warpers whose result for a row depends on nothing but the row's scores."""


class TopLogits(NamedTuple):
    """The m largest logits of each row, in descending order.

    Attributes:
        scores: float32 [R, m].
        ids: int64 [R, m], the tokens that these logits belong to.
    """

    scores: torch.Tensor
    ids: torch.Tensor


class CandidateStreams:
    """Uniform random numbers, one for each candidate and step.

    Args:
        seeds: A 63-bit seed for each candidate.
    """

    def __init__(self, seeds: Mapping[int, int]) -> None:
        self._rows = {candidate: row for row, candidate in enumerate(seeds)}
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds.values()]
        self._blocks: list[torch.Tensor] = []
        self._dropped = 0

    def between(self, start: int, end: int, candidates: Sequence[int]) -> torch.Tensor:
        """Return the uniform random numbers with which candidates draw their tokens in consecutive steps.

        Args:
            start: The first step; no later call may start before it.
            end: The step after the last one.
            candidates: The candidates.

        Returns:
            float32 [end - start, len(candidates)] in [0, 1), on the host.
        """
        while _BLOCK * (self._dropped + len(self._blocks)) < end:
            self._blocks.append(torch.stack([torch.rand(_BLOCK, generator=g) for g in self._generators], dim=1))
        while _BLOCK * (self._dropped + 1) <= start:
            self._blocks.pop(0)
            self._dropped += 1
        first = _BLOCK * self._dropped
        rows = [self._rows[candidate] for candidate in candidates]
        return torch.cat(self._blocks)[start - first : end - first, rows]


class TokenSampler:
    """Applies logits processors and draws a token from the processed scores.

    Args:
        processors: Logits processors and warpers, in the order in which transformers applies them.
        greedy: Whether to take the token with the largest processed logit instead of drawing.
        waits: Whether the host may wait for the device to see if more than a few tokens tie with the k-th of top-k. If
            it may not, top-k keeps at most `_MANY_TIES` such tokens.

    Attributes:
        greedy: See above.
        width: Number of largest logits that a draw needs; 0 if it needs all of them.
        key: Equal for samplers that draw the same from the same scores, whatever the tokens before them, so that one
            call can draw for the rows of all of them; None if the sampler looks at the tokens.
    """

    def __init__(self, processors: Sequence[LogitsProcessor], *, greedy: bool, waits: bool = True) -> None:
        self.greedy = greedy
        self._waits = waits
        split = len(processors) if greedy else _narrowing_from(processors)
        self._on_all = processors[:split]
        self._on_top = processors[split:]
        self._temperature = [warper for warper in self._on_top if isinstance(warper, TemperatureLogitsWarper)]
        self._top_k = next((int(w.top_k) for w in self._on_top if isinstance(w, TopKLogitsWarper)), 0)
        self.width = self._top_k + (_TIES if waits else _MANY_TIES) if self._top_k else 0
        self.key = _key(processors, greedy=greedy)

    def draw(
        self,
        sequences: torch.LongTensor,
        logits: torch.Tensor,
        uniforms: torch.Tensor | None,
        top_logits: TopLogits | None = None,
    ) -> torch.Tensor:
        """Draw one token per row.

        Args:
            sequences: int64 [R, length], the tokens so far; not read if there is a `key`.
            logits: float32 [R, vocabulary]; not changed.
            uniforms: float32 [R] in [0, 1); None when greedy.
            top_logits: The largest logits, at least `width` of each row; None computes them.

        Returns:
            int64 [R].
        """
        scores = logits
        if self._on_all:
            # a processor may write into its input
            scores, top_logits = _process(self._on_all, sequences, logits.clone()), None
        if self.greedy:
            return scores.argmax(-1)
        assert uniforms is not None
        if not 0 < self.width < scores.shape[-1]:
            return sample_tokens(_process(self._on_top, sequences, scores), uniforms)
        found = top_logits or TopLogits(*scores.topk(self.width))
        narrow = TopLogits(found.scores[:, : self.width], found.ids[:, : self.width])
        # in the order of the vocabulary, in which `sample_tokens` sums the distribution up
        ids, order = narrow.ids.sort(-1)
        warped = _process(self._on_top, sequences, narrow.scores.gather(-1, order))
        tokens = ids.gather(-1, sample_tokens(warped, uniforms)[:, None]).squeeze(-1)
        if self._waits:
            whole = self._hold_every_kept_token(sequences, narrow.scores)
            if not bool(whole.all()):
                rows = (~whole).nonzero().squeeze(-1)
                warped = _process(self._on_top, sequences, scores[rows])
                tokens[rows] = sample_tokens(warped, uniforms[rows])
        return tokens

    def _hold_every_kept_token(self, sequences: torch.LongTensor, scores: torch.Tensor) -> torch.Tensor:
        """Return for each row whether the scores hold every token that top-k keeps, ties included; bool [R].

        They do where the last score is below the k-th, or where no k tokens are left to draw.
        """
        scores = _process(self._temperature, sequences, scores)
        worst_kept = scores[:, self._top_k - 1]
        return (scores[:, -1] < worst_kept) | (worst_kept == -torch.inf)


def _key(processors: Sequence[LogitsProcessor], *, greedy: bool) -> Hashable:
    """Return the `key` of a sampler with these processors."""
    parts: list[Hashable] = []
    for processor in processors:
        settings = tuple(sorted(vars(processor).items()))
        if type(processor) not in _ROW_WARPERS or not all(isinstance(v, bool | int | float) for _, v in settings):
            return None
        parts.append((type(processor), settings))
    return greedy, tuple(parts)


def _process(processors: Sequence[LogitsProcessor], sequences: torch.LongTensor, scores: torch.Tensor) -> torch.Tensor:
    """Apply processors one by one; transformers' own list of them inspects every signature at every step."""
    for processor in processors:
        scores = processor(sequences, cast("torch.FloatTensor", scores))
    return scores


def _narrowing_from(processors: Sequence[LogitsProcessor]) -> int:
    """Return the index from which on warpers may run on the likeliest tokens alone: temperature, top-k and later ones.

    It is the number of processors if there is no top-k, or if a later one looks at tokens that top-k has removed.
    """
    at = next((i for i, p in enumerate(processors) if type(p) is TopKLogitsWarper), None)
    if at is None or not all(type(p) in _LOCAL_WARPERS for p in processors[at + 1 :]):
        return len(processors)
    while at and type(processors[at - 1]) is TemperatureLogitsWarper:
        at -= 1
    return at


def sample_tokens(scores: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Draw one token per row by inverting the cumulative distribution.

    Args:
        scores: float32 [R, vocabulary], processed logits; -inf excludes a token.
        uniforms: float32 [R] in [0, 1).

    Returns:
        int64 [R]. A row of NaN gives the last token; the caller must reject such rows.
    """
    cumulative = scores.softmax(-1).cumsum(-1)
    total = cumulative[:, -1:]
    # below the total, so that rounding never leads past the last token with a positive probability
    threshold = torch.minimum(uniforms[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    tokens = torch.searchsorted(cumulative, threshold, right=True).squeeze(-1)
    return tokens.clamp_max(scores.shape[-1] - 1)
