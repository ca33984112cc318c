"""A batch of rows that keeps each request's prompt once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from transformers import Cache, PreTrainedModel

from nad_agents.engine.hf.prefix.attention import shared_prefix_attention
from nad_agents.engine.hf.prefix.blocks import Prefix
from nad_agents.engine.hf.prefix.cache import SharedPrefixCache
from nad_agents.engine.hf.prefix.prefix_cache import PrefixCache
from nad_agents.engine.hf.prefix.support import continues_states

__all__ = ["COPIED_PROMPT", "SharedPrefixBatch", "copying_rows"]

COPIED_PROMPT = 1024
"""Longest prompt, in tokens, that rows copy into their suffixes: attending to one part costs less than attending to two
and merging them. On a CPU only a request's only row does so, as several rows lose more by reading copies."""

_COPIED_TOKENS = 16_384
"""Greatest number of copied tokens of all rows of a request on an accelerator. For 7 billion parameters in 16 bits they
are 0.9 GB, which are read in less time than the host takes to launch the eight operations of a merge in each layer."""


def copying_rows(prompt: int, *, on_cpu: bool) -> int:
    """Return how many rows a request may have so that each of them gets a copy of its prompt; 0 for a long prompt.

    Args:
        prompt: Number of tokens of the prompt.
        on_cpu: Whether the model is on a CPU.
    """
    if prompt > COPIED_PROMPT:
        return 0
    return 1 if on_cpu else _COPIED_TOKENS // max(prompt, 1)


class SharedPrefixBatch:
    """Rows that attend to the prefix of their request and to their own suffix.

    Args:
        model: A model for which `sharing_obstacle` returns an empty text.
        prefixes: Earlier prompts.

    Attributes:
        cache: The cache of all rows; None while the batch is empty.
    """

    unmergeable: Sequence[str] = ()
    """Names of the layer classes that prevent rows of another prompt from being added."""

    def __init__(self, model: PreTrainedModel, prefixes: PrefixCache) -> None:
        self._model = model
        self._prefixes = prefixes
        # multi-head latent attention computes keys and values anew from every copy of the prompt's latents
        self._expands = any(hasattr(type(module), "expand_kv") for module in model.modules())
        self.cache: SharedPrefixCache | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.cache.rows if self.cache is not None else 0

    def open(self, like: Cache, ids: Sequence[int]) -> tuple[SharedPrefixCache, int]:
        """Start reading a prompt at the first token that no cached prompt covers.

        Args:
            like: An empty cache that transformers made for the model.
            ids: The prompt's tokens.

        Returns:
            The cache to read into, of batch size 1, and the number of tokens that it already holds.
        """
        cache = SharedPrefixCache(like)
        whole = cache.has_states and not continues_states(self._model.config)
        known = self._prefixes.find(ids, whole=whole) or Prefix(0, {}, {})
        cache.add_group(known, 1, reserve=len(ids) - known.length)
        return cache, known.length

    def join(self, read: SharedPrefixCache, ids: Sequence[int], rows: int) -> None:
        """Add rows that continue a prompt, and put the prompt into the prefix cache.

        Args:
            read: The cache that the prompt was read into.
            ids: The prompt's tokens.
            rows: Number of rows.
        """
        prefix = read.freeze()
        self._prefixes.keep(ids, prefix, read.windows)
        if self.cache is None:
            self.cache = read.empty()
        on_cpu = self._expands or self._model.device.type == "cpu"
        self.cache.add_group(prefix, rows, copy=rows <= copying_rows(prefix.length, on_cpu=on_cpu))

    def keep(self, rows: torch.Tensor) -> None:
        """Keep some rows, int64 indices in ascending order on the host."""
        if self.cache is not None:
            self.cache.keep(rows)
        if not len(rows):
            self.cache = None

    def step_inputs(self) -> tuple[torch.Tensor, None]:
        """Return the position ids [rows, 1] of the next token, and None as mask, since nothing is padded."""
        assert self.cache is not None
        return self.cache.positions(1, self._model.device), None

    def advance(self) -> None:
        """Count the token that every row has read."""
        assert self.cache is not None
        self.cache.advance(1)

    def attention(self, cache: Cache) -> AbstractContextManager[None]:
        """Return a context in which the model attends to the prefixes and suffixes of a cache."""
        assert isinstance(cache, SharedPrefixCache)
        return shared_prefix_attention(self._model, cache)
