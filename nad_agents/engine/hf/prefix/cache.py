"""A transformers cache that holds the prefix of each request once and the suffix of every row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import (
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionLayer,
)

from nad_agents.engine.hf.prefix.blocks import Block, LayerPrefix, Prefix, RecurrentState
from nad_agents.engine.hf.prefix.layers import RowGroup, SharedAttentionLayer, SharedHybridLayer, Suffix
from nad_agents.engine.hf.recurrent_rows import append_states, keeps_nothing, select_states, set_states

__all__ = ["SharedPrefixCache", "unshareable_layers"]
_SHORT = 256
"""Largest size, in positions, of a block merged from a prefix's last blocks; every block costs a call in every step."""


def unshareable_layers(cache: Cache) -> list[str]:
    """Return the names of a cache's layer classes whose prefixes cannot be shared.

    Args:
        cache: The cache that transformers makes for the model.
    """
    if type(cache) is not DynamicCache or cache.offloading:
        return [type(cache).__name__]
    return sorted({type(layer).__name__ for layer in cache.layers if _shared_layer(layer) is None})


def _shared_layer(layer: Any) -> Any:
    """Return the empty layer that replaces one of transformers' layers; None if no layer can replace it."""
    if type(layer) is DynamicLayer:
        return SharedAttentionLayer()
    if type(layer) is DynamicSlidingWindowLayer:
        return SharedAttentionLayer(layer.sliding_window)
    if type(layer) is LinearAttentionLayer:
        return LinearAttentionLayer(number_of_states=layer.number_of_states)
    if type(layer) is LinearAttentionAndFullAttentionLayer:
        return SharedHybridLayer(number_of_states=layer.number_of_states)
    if type(layer) is LinearAttentionAndSlidingWindowAttentionLayer:
        return SharedHybridLayer(layer.sliding_window, layer.number_of_states)
    return type(layer)() if keeps_nothing(layer) else None


class _NewKeys(NamedTuple):
    """The tensors that a layer received in this forward pass; keeping them prevents the reuse of their addresses."""

    layer: SharedAttentionLayer
    keys: torch.Tensor
    values: torch.Tensor


class SharedPrefixCache(Cache):
    """Cache of several groups of rows, each with its own prefix.

    Args:
        like: An empty cache that transformers made for the model; its layers show what each layer stores.

    Attributes:
        groups: The groups, in the order of their rows.
    """

    def __init__(self, like: Cache) -> None:
        super().__init__(layers=[_shared_layer(layer) for layer in like.layers])
        self._like = like
        self.groups: list[RowGroup] = []
        self._attention: dict[int, SharedAttentionLayer] = {}
        self._recurrent: dict[int, LinearAttentionLayer] = {}
        layers: Sequence[Any] = self.layers
        for index, layer in enumerate(layers):
            if isinstance(layer, SharedAttentionLayer):
                layer.groups = self.groups
                self._attention[index] = layer
            if isinstance(layer, LinearAttentionLayer):
                self._recurrent[index] = layer
        self._updated: SharedAttentionLayer | None = None
        self._new: dict[int, _NewKeys] = {}
        self._newest: _NewKeys | None = None

    @property
    def rows(self) -> int:
        """Number of rows of all groups."""
        return sum(group.rows for group in self.groups)

    @property
    def windows(self) -> list[int | None]:
        """The number of positions that a token sees in each layer; None if it sees all, or without attention."""
        return [getattr(layer, "window", None) for layer in self.layers]

    @property
    def attention_layers(self) -> Mapping[int, SharedAttentionLayer]:
        """The layers that compute attention, by their index."""
        return self._attention

    @property
    def has_prefixes(self) -> bool:
        """Whether any row attends to a prefix, instead of having a copy of it or none yet."""
        return any(group.prefix for group in self.groups)

    @property
    def has_keys(self) -> bool:
        """Whether any layer holds keys and values."""
        return any(suffix.length for layer in self._attention.values() for suffix in layer.suffixes)

    @property
    def has_states(self) -> bool:
        """Whether any layer has a recurrent state."""
        return bool(self._recurrent)

    def empty(self) -> SharedPrefixCache:
        """Return a cache of the same kind without rows."""
        return SharedPrefixCache(self._like)

    def add_group(self, prefix: Prefix, rows: int, *, reserve: int = 0, copy: bool = False) -> None:
        """Add rows that continue a prefix, without copying other groups.

        Args:
            prefix: The keys, values and states of the prompt.
            rows: Number of rows.
            reserve: Number of tokens that the rows will read, if it is known.
            copy: Whether the suffix of every row begins with a copy of the prefix, so that there is nothing to merge.
        """
        had = self.rows
        group = RowGroup(rows, 0, prefix.length) if copy else RowGroup(rows, prefix.length, reserve=reserve)
        self.groups.append(group)
        for index, layer in self._attention.items():
            kept = prefix.attention.get(index, LayerPrefix())
            layer.prefixes.append(LayerPrefix() if copy else kept)
            layer.suffixes.append(Suffix.of(kept, rows) if copy else Suffix())
        for index, recurrent in self._recurrent.items():
            append_states(recurrent, _state_rows(prefix.states.get(index), recurrent, rows), had, rows)

    def freeze(self) -> Prefix:
        """Return what the only row has read as a prefix for other caches; this cache must not be used afterwards."""
        (group,) = self.groups
        attention = {}
        for index, layer in self._attention.items():
            (prefix,), (suffix,) = layer.prefixes, layer.suffixes
            read = suffix.between(suffix.dropped, group.suffix) if suffix.length else None
            # a suffix that has dropped positions has also dropped all of the prefix, which no later token sees
            blocks = prefix.blocks if not suffix.dropped else ()
            start = prefix.start if not suffix.dropped else group.prefix + suffix.dropped
            whole = LayerPrefix((*blocks, read) if read is not None else blocks, start)
            attention[index] = whole.joined(_SHORT) if layer.window is None else _last(whole, layer.window - 1)
        states = {
            index: RecurrentState(dict(layer.conv_states), dict(layer.recurrent_states))
            for index, layer in self._recurrent.items()
            if any(layer.has_previous_state.values())
        }
        return Prefix(group.position, attention, states)

    def keep(self, rows: torch.Tensor) -> None:
        """Keep some rows, int64 indices in ascending order; groups without rows are removed with their prefix."""
        at, kept = 0, []
        for number, group in enumerate(self.groups):
            local = rows[(rows >= at) & (rows < at + group.rows)] - at
            at += group.rows
            if not len(local):
                continue
            kept.append(number)
            if len(local) < group.rows:
                group.rows = len(local)
                for layer in self._attention.values():
                    layer.suffixes[number].keep(local)
        for layer in self._attention.values():
            layer.prefixes = [layer.prefixes[number] for number in kept]
            layer.suffixes = [layer.suffixes[number] for number in kept]
        self.groups[:] = [self.groups[number] for number in kept]
        for recurrent in self._recurrent.values():
            select_states(recurrent, rows)

    def advance(self, tokens: int) -> None:
        """Count the tokens that every row has read in a forward pass, whose own keys and values are let go."""
        self._forget_new()
        for group in self.groups:
            group.suffix += tokens

    def count_stored(self, tokens: int) -> None:
        """Count tokens whose keys and values were stored in the suffixes' memory without `update`."""
        for layer in self._attention.values():
            for suffix in layer.suffixes:
                if suffix.keys is not None:
                    suffix.length += tokens

    @contextmanager
    def provisional(self) -> Iterator[None]:
        """Forget the tokens that rows read in the block, even where the block fails; the suffixes must have room."""
        read = [(group, group.suffix) for group in self.groups]
        stored = [(suffix, suffix.length) for layer in self._attention.values() for suffix in layer.suffixes]
        try:
            yield
        finally:
            for group, length in read:
                group.suffix = length
            for suffix, length in stored:
                suffix.length = length

    def positions(self, tokens: int, device: torch.device) -> torch.Tensor:
        """Return the positions of the next tokens, int64 [rows, tokens]."""
        first = [group.position for group in self.groups for _ in range(group.rows)]
        return torch.tensor(first, device=device)[:, None] + torch.arange(tokens, device=device)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the keys and values of new tokens to a layer and return just these."""
        layer: Any = self.layers[layer_idx]
        layer.update(key_states, value_states)
        self._updated = layer
        self._newest = self._new[key_states.data_ptr()] = _NewKeys(layer, key_states, value_states)
        return key_states, value_states

    def layer_of(self, keys: torch.Tensor, values: torch.Tensor, *, expanded: bool) -> SharedAttentionLayer | None:
        """Return the layer from whose `update` an attention function's keys and values come; None if from no layer.

        Args:
            keys: The keys that `update` returned to the model.
            values: The values that `update` returned to the model.
            expanded: Whether the model has computed its keys and values from the tensors that `update` returned.
        """
        layer = self._updated
        if layer is not None and not layer.attended and (expanded or self._is_new(keys, values)):
            layer.attended = True
            return layer
        # this need not be the last updated layer, since some layers reuse the keys of an earlier one
        new = self._new.get(keys.data_ptr())
        if new is None or new.keys.shape != keys.shape or not _same(new.values, values):
            return None
        new.layer.attended = True
        return new.layer

    def _is_new(self, keys: torch.Tensor, values: torch.Tensor) -> bool:
        """Return whether these are the very tensors that the last `update` returned."""
        return self._newest is not None and keys is self._newest.keys and values is self._newest.values

    def unattended(self) -> bool:
        """Return whether a layer's attention did not go through the function in the last forward pass."""
        self._forget_new()
        return any(not layer.attended for layer in self._attention.values())

    def _forget_new(self) -> None:
        self._updated = self._newest = None
        self._new.clear()


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and one.data_ptr() == other.data_ptr()


def _last(prefix: LayerPrefix, positions: int) -> LayerPrefix:
    """Return the last positions as one block with its own memory."""
    start = max(prefix.start, prefix.end - positions)
    if start == prefix.start:
        return prefix
    blocks = prefix.between(start, prefix.end)
    if not blocks:
        return LayerPrefix((), start)
    keys = torch.cat([block.keys for block in blocks], dim=-2)
    values = torch.cat([block.values for block in blocks], dim=-2)
    return LayerPrefix((Block(keys, values),), start)


def _state_rows(state: RecurrentState | None, like: LinearAttentionLayer, rows: int) -> LinearAttentionLayer:
    """Return a layer with a copy of a state for each of several rows."""
    layer = LinearAttentionLayer(number_of_states=like.number_of_states)
    if state is None:
        return layer
    for name, tensors in (("conv_states", state.conv), ("recurrent_states", state.recurrent)):
        for index, tensor in tensors.items():
            if tensor is not None:
                set_states(layer, name, index, tensor.repeat_interleave(rows, 0))
    return layer
