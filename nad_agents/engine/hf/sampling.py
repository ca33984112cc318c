"""Drawing tokens with randomness that belongs to the request.

Every candidate has its own stream, seeded by (seed, candidate index). So candidate i is the same however many others
there are and whichever of them are dropped, and the global random state is neither read nor changed.

With top-k sampling nothing behind the k likeliest tokens can be drawn, so transformers' own warpers run on those alone:
sorting a vocabulary of 150,000 for top-p takes a third of the time of a small model's step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
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

_TIES = 32
"""Tokens looked at beyond top_k: those that equal the last of the k are kept too."""

_BLIND_TO_THE_REST = (EpsilonLogitsWarper, EtaLogitsWarper, MinPLogitsWarper, TopPLogitsWarper, TypicalLogitsWarper)
"""Warpers for which a token of probability 0 is as good as absent."""


class TopLogits(NamedTuple):
    """The best-scored tokens of each row, best first.

    Attributes:
        scores: float32 [R, m].
        ids: int64 [R, m].
    """

    scores: torch.Tensor
    ids: torch.Tensor


class CandidateStreams:
    """Uniform numbers for candidates, one per candidate and step.

    Args:
        seed: the request's seed.
        candidates: their numbers.
    """

    def __init__(self, seed: int, candidates: Sequence[int]) -> None:
        states = [np.random.SeedSequence([seed, i]).generate_state(1, np.uint64)[0] for i in candidates]
        self._rows = {candidate: row for row, candidate in enumerate(candidates)}
        self._generators = [torch.Generator().manual_seed(int(state) % 2**63) for state in states]
        self._block = np.empty((0, 0), np.float32)
        self._block_index = -1

    def at(self, step: int, candidates: Sequence[int]) -> torch.Tensor:
        """The numbers of a step for some of the candidates; steps must be asked for in order.

        Returns:
            float32 [len(candidates)] in [0, 1).
        """
        while self._block_index < step // _BLOCK:
            self._block = torch.stack([torch.rand(_BLOCK, generator=g) for g in self._generators]).numpy()
            self._block_index += 1
        rows = [self._rows[candidate] for candidate in candidates]
        return torch.from_numpy(self._block[rows, step % _BLOCK])


class TokenSampler:
    """Draws tokens as logits processors ask.

    Args:
        processors: as transformers builds them.
        greedy: take the best-scored token.

    Attributes:
        greedy: whether it takes the best-scored token.
        width: how many of the likeliest tokens it asks for; 0 where it has to see all.
    """

    def __init__(self, processors: Sequence[LogitsProcessor], *, greedy: bool) -> None:
        self.greedy = greedy
        split = len(processors) if greedy else _narrowing_from(processors)
        self._on_all = processors[:split]
        self._on_likeliest = processors[split:]
        self._heat = [warper for warper in self._on_likeliest if isinstance(warper, TemperatureLogitsWarper)]
        self._top_k = next((int(w.top_k) for w in self._on_likeliest if isinstance(w, TopKLogitsWarper)), 0)
        self.width = self._top_k + _TIES if self._top_k else 0

    def draw(
        self,
        sequences: torch.LongTensor,
        logits: torch.Tensor,
        uniforms: torch.Tensor | None,
        likeliest: TopLogits | None = None,
    ) -> torch.Tensor:
        """One token per row.

        Args:
            sequences: int64 [R, length], the tokens so far.
            logits: float32 [R, vocabulary]; left as they are.
            uniforms: float32 [R] in [0, 1); None when greedy.
            likeliest: of the logits, at least `width` wide, where it is at hand.

        Returns:
            int64 [R].
        """
        scores = logits
        if self._on_all:
            # processors may write into what they get
            scores, likeliest = _processed(self._on_all, sequences, logits.clone()), None
        if self.greedy:
            return scores.argmax(-1)
        assert uniforms is not None
        if self.width and self.width < scores.shape[-1]:
            found = likeliest or TopLogits(*scores.topk(self.width))
            narrow = TopLogits(found.scores[:, : self.width], found.ids[:, : self.width])
            if self._holds_all(sequences, narrow.scores):
                # in the order of the vocabulary, in which the distribution is summed up
                ids, order = narrow.ids.sort(-1)
                warped = _processed(self._on_likeliest, sequences, narrow.scores.gather(-1, order))
                return ids.gather(-1, sample_tokens(warped, uniforms)[:, None]).squeeze(-1)
        return sample_tokens(_processed(self._on_likeliest, sequences, scores), uniforms)

    def _holds_all(self, sequences: torch.LongTensor, scores: torch.Tensor) -> bool:
        """Whether every token that top-k keeps is there: the last one is worse than the k-th, or nothing is left."""
        scores = _processed(self._heat, sequences, scores)
        worst_kept = scores[:, self._top_k - 1]
        return bool(((scores[:, -1] < worst_kept) | (worst_kept == -torch.inf)).all())


def _processed(
    processors: Sequence[LogitsProcessor], sequences: torch.LongTensor, scores: torch.Tensor
) -> torch.Tensor:
    """What the processors make of the scores; transformers' own list of them inspects every signature at every step."""
    for processor in processors:
        scores = processor(sequences, cast("torch.FloatTensor", scores))
    return scores


def _narrowing_from(processors: Sequence[LogitsProcessor]) -> int:
    """Where the warpers begin that may run on the likeliest tokens alone: temperature, top-k and what follows it."""
    at = next((i for i, p in enumerate(processors) if type(p) is TopKLogitsWarper), None)
    if at is None or not all(type(p) in _BLIND_TO_THE_REST for p in processors[at + 1 :]):
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
        int64 [R]. A row of NaN gives the last token; the caller is expected to reject such rows.
    """
    cumulative = scores.softmax(-1).cumsum(-1)
    total = cumulative[:, -1:]
    # below the total, so that rounding can never reach behind the last token that has probability
    threshold = torch.minimum(uniforms[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    tokens = torch.searchsorted(cumulative, threshold, right=True).squeeze(-1)
    return tokens.clamp_max(scores.shape[-1] - 1)
