"""The KV cache of a batch whose rows come from different prompts and leave at different times.

Rows are right-aligned: a shorter row is padded on the left with positions that the attention mask hides.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import transformers
from transformers import Cache, DynamicCache
from transformers.cache_utils import (
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionLayer,
)

from nad_agents.engine.hf.prefix.blocks import Block, LayerPrefix, Prefix
from nad_agents.engine.hf.prefix.prefix_cache import PrefixCache
from nad_agents.engine.hf.recurrent_rows import append_states, keeps_nothing
from nad_agents.exceptions import UnsupportedModelError

__all__ = [
    "ROOM",
    "BatchCache",
    "GrowingLayer",
    "expand_rows",
    "grow_in_place",
    "keeps_positions",
    "unmergeable_layers",
]

ROOM = 32
"""Positions that a layer gains whenever it is full."""


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call] # transformers leaves it untyped
    """A `DynamicLayer` whose keys and values are the filled part of larger tensors, so that a step copies one token.

    Other code may replace the keys and values (to select rows or to cut padding): they are copied into larger tensors
    at the next token.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # as above
        self._rooms: dict[str, torch.Tensor] = {}

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values, [R, heads, new, head_dim] each, and return all of them."""
        if self.keys is None or self.values is None:
            return super().update(key_states, value_states, *args, **kwargs)
        self.keys = self._append("keys", self.keys, key_states)
        self.values = self._append("values", self.values, value_states)
        return self.keys, self.values

    def _append(self, name: str, filled: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
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


_UNBOUNDED = (DynamicLayer, GrowingLayer, LinearAttentionAndFullAttentionLayer)
"""Layers that keep the keys and values of every position."""

_WINDOWED = (DynamicSlidingWindowLayer, LinearAttentionAndSlidingWindowAttentionLayer)
"""Classes of layers that keep the keys and values of the last positions."""


def _is_positionless(layer: Any) -> bool:
    """Return whether a layer keeps nothing of single positions: a state that has read them all, or nothing."""
    return type(layer) is LinearAttentionLayer or keeps_nothing(layer)


def grow_in_place(cache: Cache) -> None:
    """Replace a cache's plain layers by growing ones; layers of other kinds stay."""
    layers: list[Any] = cache.layers
    for i, layer in enumerate(layers):
        if type(layer) is DynamicLayer and layer.keys is not None and layer.values is not None:
            grown = GrowingLayer()
            grown.lazy_initialization(layer.keys, layer.values)
            grown.keys, grown.values = layer.keys, layer.values
            layers[i] = grown


def expand_rows(cache: Cache, rows: int) -> None:
    """Repeat the only row of a cache, whichever kinds of layers it has.

    Args:
        cache: A cache of batch size 1.
        rows: Number of rows that the cache has afterwards.

    Raises:
        UnsupportedModelError: A layer keeps states of its own that it does not repeat.
    """
    # `batch_repeat_interleave` would do the same, but layers with a recurrent state lack it
    cache.reorder_cache(torch.zeros(rows, dtype=torch.long))  # type: ignore[arg-type] # any int64 tensor will do
    for layer in cache.layers:
        states = [state for value in vars(layer).values() if isinstance(value, dict) for state in value.values()]
        if any(isinstance(state, torch.Tensor) and len(state) != rows for state in states):
            msg = (
                f"the cache of this model ({type(layer).__name__}) cannot hold several candidates in transformers "
                f"{transformers.__version__}; install a newer version"
            )
            raise UnsupportedModelError(msg)


def keeps_positions(cache: Cache) -> bool:
    """Return whether every layer keeps keys and values of single positions, all of them or those in a window."""
    kinds = (DynamicLayer, GrowingLayer, DynamicSlidingWindowLayer)
    return isinstance(cache, DynamicCache) and all(
        type(layer) in kinds or keeps_nothing(layer) for layer in cache.layers
    )


def _is_plain(cache: Cache) -> bool:
    return isinstance(cache, DynamicCache) and all(type(layer) is DynamicLayer for layer in cache.layers)


def unmergeable_layers(cache: Cache) -> list[str]:
    """Return the names of a cache's layer classes that cannot hold rows of several prompts."""
    if not isinstance(cache, DynamicCache):
        return [type(cache).__name__]
    mergeable = (*_UNBOUNDED, *_WINDOWED)
    others = [layer for layer in cache.layers if type(layer) not in mergeable and not _is_positionless(layer)]
    return sorted({type(layer).__name__ for layer in others})


class BatchCache:
    """Keys and values of R rows; each row has its own left padding and its own copy of its prompt's keys and values.

    Args:
        device: The model's device.
        prefixes: Earlier prompts.

    Attributes:
        cache: The transformers cache, [R, heads, length, head_dim] per layer; None while the batch is empty.
        padding: int64 [R], number of hidden positions on the left of each row.
        length: Positions per row, padding included.
    """

    def __init__(self, device: torch.device, prefixes: PrefixCache) -> None:
        self.device = device
        self._prefixes = prefixes
        self.cache: Cache | None = None
        self.padding = torch.zeros(0, dtype=torch.long, device=device)
        self.length = 0
        self._padded = False

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.padding)

    @property
    def unmergeable(self) -> Sequence[str]:
        """Names of the layer classes that prevent rows of another prompt from being added."""
        return unmergeable_layers(self.cache) if self.cache is not None else []

    def open(self, cache: Cache, ids: Sequence[int]) -> tuple[Cache, int]:
        """Start reading a prompt at the first token that no cached prompt covers.

        Args:
            cache: An empty cache of batch size 1.
            ids: The prompt's tokens.

        Returns:
            The cache to read into, and the number of tokens that it already holds.
        """
        known = self._prefixes.find(ids) if _is_plain(cache) else None
        if known is None:
            return cache, 0
        layers: list[Any] = cache.layers
        for index, layer in enumerate(layers):
            blocks = known.attention[index].blocks
            layer.update(*(torch.cat([getattr(block, name) for block in blocks], -2) for name in ("keys", "values")))
        return cache, known.length

    def join(self, cache: Cache, ids: Sequence[int], rows: int) -> None:
        """Add rows that continue a prompt, and put the prompt into the prefix cache.

        Args:
            cache: The cache of batch size 1 that the prompt was read into.
            ids: The prompt's tokens.
            rows: Number of rows.
        """
        if _is_plain(cache) and len(ids):
            layers: list[Any] = cache.layers
            kept = {i: LayerPrefix((Block(layer.keys, layer.values),)) for i, layer in enumerate(layers)}
            self._prefixes.keep(ids, Prefix(len(ids), kept, {}), [None] * len(layers))
        expand_rows(cache, rows)
        self._add(cache, len(ids), rows)

    def advance(self) -> None:
        """Count the token that every row has read."""
        self.length += 1

    def attention(self, _cache: Cache) -> AbstractContextManager[None]:
        """Return a context in which the model keeps the attention that it was loaded with."""
        return nullcontext()

    def _add(self, cache: Cache, length: int, rows: int) -> None:
        """Append the rows of a prefilled prompt, `length` positions each."""
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
        """Keep only these rows (int64 indices on the host), and remove padding that no row needs any more."""
        rows = rows.to(self.device)
        self.padding = self.padding[rows]
        if len(rows) == 0 or self.cache is None:
            self.cache, self.length = None, 0
            return
        self.cache.reorder_cache(rows)  # type: ignore[arg-type] # any int64 tensor will do
        unused = int(self.padding.min())
        if unused and all(type(layer) in _UNBOUNDED or _is_positionless(layer) for layer in self.cache.layers):
            layers: list[Any] = self.cache.layers
            for layer in layers:
                if type(layer) in _UNBOUNDED:
                    layer.keys, layer.values = layer.keys[..., unused:, :], layer.values[..., unused:, :]
            self.padding = self.padding - unused
            self.length -= unused
        self._padded = bool(self.padding.any())

    def step_inputs(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return position ids [R, 1] and attention mask [R, length + 1] of the next token; no mask without padding."""
        positions = (self.length - self.padding)[:, None]
        if not self._padded:
            return positions, None
        columns = torch.arange(self.length + 1, device=self.device)
        return positions, (columns[None, :] >= self.padding[:, None]).long()


def _append_rows(mine: Any, theirs: Any, my_rows: int, their_rows: int, total: int) -> None:
    """Append the rows of another prompt's layer to a layer."""
    if isinstance(mine, LinearAttentionLayer):
        append_states(mine, theirs, my_rows, their_rows)
    if isinstance(mine, DynamicLayer):
        _append_positions(mine, theirs, my_rows, their_rows, total)


def _append_positions(mine: Any, theirs: Any, my_rows: int, their_rows: int, total: int) -> None:
    """Stack keys and values; a layer without positions (a one-token prompt) counts as all padding."""
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
    """Return the number of positions that a layer holds."""
    return int(layer.keys.shape[-2]) if layer.is_initialized and layer.keys.numel() else 0
