"""The KV cache of a batch whose rows come from different prompts and leave at different times.

Rows are right-aligned: a shorter row is padded on the left with positions that the attention mask hides.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from nad_agents.engine.growing_layer import GrowingLayer, grow_in_place

__all__ = ["BatchCache"]

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
