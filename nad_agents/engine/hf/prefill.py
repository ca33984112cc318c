"""Read a prompt into a cache of batch size 1, in pieces, so that the batch can advance in between.

The pieces of a prompt depend on nothing but its length and what the prefix cache knew of it, so other callers change no
bit of the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from transformers import Cache, PreTrainedConfig

from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf.captured.support import rope_follows_length
from nad_agents.engine.hf.generation_setup import GenerationSetup
from nad_agents.engine.hf.kv_cache import keeps_positions
from nad_agents.engine.hf.prefix.support import continues_states

__all__ = ["PREFILL_TOKENS", "HFPrefill", "piece_size"]

PREFILL_TOKENS = 512
"""Tokens of a prompt that are read in one forward pass."""


def piece_size(cache: Cache, config: PreTrainedConfig) -> int | None:
    """Return how many tokens of a prompt may be read at a time.

    Args:
        cache: The prompt's empty cache.
        config: The model's config.

    Returns:
        `PREFILL_TOKENS`, or None if the prompt has to be read in one forward pass: the recurrent layers of some models
        restart with every pass over several tokens, and some rotary embeddings depend on the length of the pass.
    """
    goes_on = keeps_positions(cache) or continues_states(config)
    return PREFILL_TOKENS if goes_on and not rope_follows_length(config) else None


@dataclass(eq=False)
class HFPrefill:
    """A prompt that is being read; see `nad_agents.engine.base.Prefill`.

    Attributes:
        request: The request.
        prompt: int64 [1, T], the prompt's tokens on the model's device.
        setup: The request as transformers prepared it.
        cache: The prompt's cache.
        read: Tokens whose keys and values are in the cache.
        piece: Greatest number of tokens per forward pass; None for all of them in one.
        forward: Reads tokens [1, t] at positions [1, t] into the cache.
        started: Time at which the prefill began, by `time.perf_counter`.
        cached_tokens: Tokens that the prefix cache knew, so that they were not read again.
    """

    request: GenerationRequest
    prompt: torch.Tensor
    setup: GenerationSetup
    cache: Cache
    read: int
    piece: int | None
    forward: Callable[[torch.Tensor, torch.Tensor, Cache], object]
    started: float
    cached_tokens: int = field(init=False)

    def __post_init__(self) -> None:
        """Remember how many tokens the prefix cache knew."""
        self.cached_tokens = self.read

    @property
    def tokens_left(self) -> int:
        """Number of prompt tokens that are still to be read; the last one is read by the first step."""
        return self.prompt.shape[1] - 1 - self.read

    @property
    def seconds(self) -> float:
        """Seconds since the prefill began."""
        return time.perf_counter() - self.started

    @torch.inference_mode()
    def advance(self) -> int:
        """Read the next piece of the prompt and return its number of tokens, 0 if nothing is left."""
        tokens = min(self.tokens_left, self.piece or self.tokens_left)
        if tokens:
            end = self.read + tokens
            positions = torch.arange(self.read, end, device=self.prompt.device)[None]
            self.forward(self.prompt[:, self.read : end], positions, self.cache)
            self.read = end
        return tokens
