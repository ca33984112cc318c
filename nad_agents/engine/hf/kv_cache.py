"""The KV cache of a batch whose rows come from different prompts and leave at different times.

Rows are right-aligned: a shorter row is padded on the left with positions that the attention mask hides.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

__all__ = ["ROOM", "BatchCache", "GrowingLayer", "PrefixCache", "grow_in_place"]


ROOM = 32
"""Positions that are added when a layer is full."""


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call] # transformers leaves it untyped
    """A `DynamicLayer` whose keys and values are the filled part of larger tensors.

    Whoever puts other tensors in their place (rows selected, padding cut) need not know: they are copied into larger
    ones at the next token.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # as above
        self._rooms: dict[str, torch.Tensor] = {}

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values [R, heads, new, head_dim]; returns all of them."""
        if self.keys is None or self.values is None:
            return super().update(key_states, value_states, *args, **kwargs)
        self.keys = self._appended("keys", self.keys, key_states)
        self.values = self._appended("values", self.values, value_states)
        return self.keys, self.values

    def _appended(self, name: str, filled: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        if not filled.numel():
            return new
        length = filled.shape[-2]
        total = length + new.shape[-2]
        room = self._rooms.get(name)
        fits = (
            room is not None
            and filled.data_ptr() == room.data_ptr()
            and filled.shape[:2] == room.shape[:2]
            and total <= room.shape[-2]
        )
        if room is None or not fits:
            room = filled.new_empty(*filled.shape[:2], total - total % -ROOM, filled.shape[-1])
            room[..., :length, :] = filled
            self._rooms[name] = room
        room[..., length:total, :] = new
        return room[..., :total, :]


def grow_in_place(cache: Cache) -> None:
    """Put growing layers in the place of a cache's plain ones; layers of other kinds stay."""
    layers: list[Any] = cache.layers
    for i, layer in enumerate(layers):
        if type(layer) is DynamicLayer and layer.keys is not None and layer.values is not None:
            grown = GrowingLayer()
            grown.lazy_initialization(layer.keys, layer.values)
            grown.keys, grown.values = layer.keys, layer.values
            layers[i] = grown


_PLAIN = (DynamicLayer, GrowingLayer)


class BatchCache:
    """Keys and values of R rows, each with its own amount of left padding.

    Attributes:
        cache: the transformers cache, [R, heads, length, head_dim] per layer; None while the batch is empty.
        padding: int64 [R], hidden positions at the left of each row.
        length: positions per row, padding included.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.cache: Cache | None = None
        self.padding = torch.zeros(0, dtype=torch.long, device=device)
        self.length = 0
        self._padded = False

    @property
    def mergeable(self) -> bool:
        """Whether rows of another prompt can be added: every layer keeps plain keys and values."""
        return self.cache is None or _mergeable(self.cache)

    def add(self, cache: Cache, length: int, rows: int) -> None:
        """Append the rows of a prefilled prompt.

        Args:
            cache: its cache, already expanded to `rows` rows.
            length: its positions.
            rows: its rows.
        """
        grow_in_place(cache)
        if self.cache is None or len(self.padding) == 0:
            self.cache, self.length = cache, length
            self.padding = torch.zeros(rows, dtype=torch.long, device=self.device)
            self._padded = False
            return
        total = max(self.length, length)
        for mine, theirs in zip(self.cache.layers, cache.layers, strict=True):
            _append_rows(mine, theirs, len(self.padding), rows, total)
        new = torch.zeros(rows, dtype=torch.long, device=self.device)
        self.padding = torch.cat([self.padding + (total - self.length), new + (total - length)])
        self._padded = bool(self.padding.any())
        self.length = total

    def keep(self, rows: torch.Tensor) -> None:
        """Keep only these rows (int64 indices), and cut padding that no row needs any more."""
        self.padding = self.padding[rows]
        if len(rows) == 0 or self.cache is None:
            self.cache, self.length = None, 0
            return
        self.cache.batch_select_indices(rows)
        unused = int(self.padding.min())
        if unused and all(type(layer) in _PLAIN for layer in self.cache.layers):
            layers: list[Any] = self.cache.layers
            for layer in layers:
                layer.keys, layer.values = layer.keys[..., unused:, :], layer.values[..., unused:, :]
            self.padding = self.padding - unused
            self.length -= unused
        self._padded = bool(self.padding.any())

    def step_inputs(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Position ids [R, 1] and attention mask [R, length + 1] of the next token; no mask without padding."""
        positions = (self.length - self.padding)[:, None]
        if not self._padded:
            return positions, None
        columns = torch.arange(self.length + 1, device=self.device)
        return positions, (columns[None, :] >= self.padding[:, None]).long()


def _mergeable(cache: Cache) -> bool:
    return isinstance(cache, DynamicCache) and all(
        type(layer) in (*_PLAIN, DynamicSlidingWindowLayer) for layer in cache.layers
    )


def _append_rows(mine: Any, theirs: Any, my_rows: int, their_rows: int, total: int) -> None:
    """Stack another prompt's rows below mine; a layer without positions (a one-token prompt) counts as all padding."""
    source = mine if _positions(mine) else theirs
    positions = max(_positions(mine), _positions(theirs))
    if not positions:
        return
    merged = []
    for name in ("keys", "values"):
        template = getattr(source, name)
        parts = []
        for layer, rows in ((mine, my_rows), (theirs, their_rows)):
            have = _positions(layer)
            padded = template.new_zeros(rows, template.shape[1], positions, template.shape[-1])
            if have:
                padded[..., positions - have :, :] = getattr(layer, name)
            parts.append(padded)
        merged.append(torch.cat(parts))
    if not mine.is_initialized:
        mine.lazy_initialization(merged[0], merged[1])
    mine.keys, mine.values = merged
    if isinstance(mine, DynamicSlidingWindowLayer):
        mine.cumulative_length = total


def _positions(layer: Any) -> int:
    """Positions that a layer holds."""
    return int(layer.keys.shape[-2]) if layer.is_initialized and layer.keys.numel() else 0


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
