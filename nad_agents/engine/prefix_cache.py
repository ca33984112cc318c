"""Keys and values of prompts that were read lately: the turns of a conversation begin alike.

A prompt that begins like an earlier one is read from where they part. Matrix products of fewer rows differ in the last
bits, so that what is drawn may differ from what the same seed gives without the earlier prompt.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

__all__ = ["PrefixCache"]

_WORTHWHILE = 32
"""Tokens that two prompts have to share: the chat template's own beginning is not worth a difference by rounding."""


@dataclass(frozen=True, eq=False)
class _Prompt:
    ids: torch.Tensor  # int64 [T]
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]  # keys and values, [1, heads, T, head_dim]

    @property
    def bytes(self) -> int:
        """What it keeps."""
        return sum(keys.nbytes + values.nbytes for keys, values in self.layers)

    def shared(self, ids: torch.Tensor) -> int:
        """How many tokens at the beginning are the same."""
        length = min(len(ids), len(self.ids))
        differ = (self.ids[:length] != ids[:length]).nonzero()
        return int(differ[0]) if len(differ) else length


class PrefixCache:
    """Prompts by last use, the oldest given up first; safe to use from several threads.

    Args:
        max_bytes: how much is kept; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._prompts: list[_Prompt] = []
        self._lock = threading.Lock()

    def fill(self, cache: Cache, ids: Sequence[int]) -> int:
        """Give an empty cache the beginning of a prompt, as far as it is known.

        Args:
            cache: of batch 1; left as it is when its layers keep anything else than plain keys and values.
            ids: the prompt's tokens.

        Returns:
            Tokens that need not be read again.
        """
        if not _is_plain(cache):
            return 0
        wanted = torch.tensor(ids)
        with self._lock:
            known = [(prompt.shared(wanted), prompt) for prompt in self._prompts]
            common, best = max(known, key=lambda pair: pair[0], default=(0, None))
            if best is None or common < _WORTHWHILE or len(best.layers) != len(cache.layers):
                return 0
            self._prompts.remove(best)
            self._prompts.append(best)
        layers: list[Any] = cache.layers
        for layer, (keys, values) in zip(layers, best.layers, strict=True):
            if not layer.is_initialized:
                layer.lazy_initialization(keys, values)
            # views: what is appended goes into new tensors
            layer.keys, layer.values = keys[..., :common, :], values[..., :common, :]
        return common

    def keep(self, cache: Cache, ids: Sequence[int]) -> None:
        """Remember a prompt that was read; its tensors must not be changed in place from now on.

        Args:
            cache: of batch 1, with keys and values of exactly these tokens.
            ids: its tokens.
        """
        if not _is_plain(cache) or len(ids) < _WORTHWHILE:
            return
        layers: list[Any] = cache.layers
        prompt = _Prompt(torch.tensor(ids), tuple((layer.keys, layer.values) for layer in layers))
        with self._lock:
            # what the new one begins with is known through it
            self._prompts = [known for known in self._prompts if known.shared(prompt.ids) < len(known.ids)]
            self._prompts.append(prompt)
            while self._prompts and sum(known.bytes for known in self._prompts) > self.max_bytes:
                self._prompts.pop(0)

    def clear(self) -> None:
        """Give everything up."""
        with self._lock:
            self._prompts.clear()


def _is_plain(cache: Cache) -> bool:
    return isinstance(cache, DynamicCache) and all(type(layer) is DynamicLayer for layer in cache.layers)
