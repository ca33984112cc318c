"""Drawing tokens with randomness that belongs to the request.

Every candidate has its own stream, seeded by (seed, candidate index). So candidate i is the same however many others
there are and whichever of them are dropped, and the global random state is neither read nor changed.
"""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["CandidateStreams", "sample_tokens"]

_BLOCK = 64


class CandidateStreams:
    """Uniform numbers for N candidates, one per candidate and step.

    Args:
        seed: the request's seed.
        n: number of candidates.
    """

    def __init__(self, seed: int, n: int) -> None:
        states = [np.random.SeedSequence([seed, i]).generate_state(1, np.uint64)[0] for i in range(n)]
        self._generators = [torch.Generator().manual_seed(int(state) % 2**63) for state in states]
        self._block = torch.empty(0)
        self._block_index = -1

    def at(self, step: int) -> torch.Tensor:
        """The numbers of a step; steps must be asked for in order.

        Returns:
            float32 [N] in [0, 1).
        """
        while self._block_index < step // _BLOCK:
            self._block = torch.stack([torch.rand(_BLOCK, generator=g) for g in self._generators])
            self._block_index += 1
        return self._block[:, step % _BLOCK]


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
