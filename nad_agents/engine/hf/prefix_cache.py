"""Keep keys and values of earlier prompts, so that a prompt with the same beginning is read only where it differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from nad_agents.fork import ForkSafeLock

__all__ = ["PrefixCache"]

_MIN_SHARED_TOKENS = 32
"""Tokens that two prompts must share. The few tokens with which every chat template begins would save no time, and
reusing them can change the last bits of the logits."""


@dataclass(frozen=True, eq=False)
class _CachedPrompt:
    ids: torch.Tensor  # int64 [T]
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]  # keys and values, [1, heads, T, head_dim]

    @property
    def bytes(self) -> int:
        """Memory of its keys and values."""
        return sum(keys.nbytes + values.nbytes for keys, values in self.layers)

    def shared_tokens(self, ids: torch.Tensor) -> int:
        """Return the length of the longest common prefix with other token ids."""
        length = min(len(ids), len(self.ids))
        differ = (self.ids[:length] != ids[:length]).nonzero()
        return int(differ[0]) if len(differ) else length


class PrefixCache:
    """Prompts in order of their last use, of which the oldest are evicted first; safe to use from several threads.

    Args:
        max_bytes: Memory for keys and values; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._prompts: list[_CachedPrompt] = []
        self._lock = ForkSafeLock()

    def fill(self, cache: Cache, ids: Sequence[int]) -> int:
        """Fill an empty cache with the longest known beginning of a prompt.

        Args:
            cache: A cache of batch size 1; left as it is if its layers keep anything but plain keys and values.
            ids: The prompt's tokens.

        Returns:
            Number of tokens that need not be read again.
        """
        if not _is_plain(cache):
            return 0
        wanted = torch.tensor(ids)
        with self._lock:
            known = [(prompt.shared_tokens(wanted), prompt) for prompt in self._prompts]
            common, best = max(known, key=lambda pair: pair[0], default=(0, None))
            if best is None or common < _MIN_SHARED_TOKENS or len(best.layers) != len(cache.layers):
                return 0
            self._prompts.remove(best)
            self._prompts.append(best)
        layers: list[Any] = cache.layers
        for layer, (keys, values) in zip(layers, best.layers, strict=True):
            if not layer.is_initialized:
                layer.lazy_initialization(keys, values)
            # views are enough, since appending makes new tensors
            layer.keys, layer.values = keys[..., :common, :], values[..., :common, :]
        return common

    def keep(self, cache: Cache, ids: Sequence[int]) -> None:
        """Remember a prompt that was read; its tensors must not be changed in place from now on.

        Args:
            cache: A cache of batch size 1 with the keys and values of exactly these tokens.
            ids: The prompt's tokens.
        """
        if not _is_plain(cache) or len(ids) < _MIN_SHARED_TOKENS:
            return
        layers: list[Any] = cache.layers
        prompt = _CachedPrompt(torch.tensor(ids), tuple((layer.keys, layer.values) for layer in layers))
        with self._lock:
            # a prompt that the new one begins with is known through the new one
            self._prompts = [known for known in self._prompts if known.shared_tokens(prompt.ids) < len(known.ids)]
            self._prompts.append(prompt)
            while self._prompts and sum(known.bytes for known in self._prompts) > self.max_bytes:
                self._prompts.pop(0)

    def clear(self) -> None:
        """Forget every prompt."""
        with self._lock:
            self._prompts.clear()


def _is_plain(cache: Cache) -> bool:
    return isinstance(cache, DynamicCache) and all(type(layer) is DynamicLayer for layer in cache.layers)
