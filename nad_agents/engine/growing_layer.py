"""Keys and values of one layer, grown in place.

transformers' own layer is copied whole for every token. That takes time in proportion to the cache, and the C
library's heap keeps holes between the copies that add up to several times its size. This one has room for some tokens
to come and is copied only when that is used up.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

__all__ = ["ROOM", "GrowingLayer", "grow_in_place"]

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
