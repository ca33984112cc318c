"""Cache layers that keep one prefix per request and the keys and values of each row's own tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import CacheLayerMixin, LinearAttentionLayer

from nad_agents.engine.hf.prefix.blocks import Block, LayerPrefix

__all__ = ["SUFFIX_ROOM", "RowGroup", "SharedAttentionLayer", "SharedHybridLayer", "Suffix"]

SUFFIX_ROOM = 32
"""Number of positions by which a full suffix grows."""


@dataclass(eq=False)
class RowGroup:
    """The rows of one request; all are at the same position.

    Attributes:
        rows: Number of rows.
        prefix: Number of tokens of the prefix.
        suffix: Number of tokens that each row has read after the prefix.
        reserve: Number of positions for which the suffix allocates memory at once, if its final length is known.
    """

    rows: int
    prefix: int
    suffix: int = 0
    reserve: int = 0

    @property
    def position(self) -> int:
        """Position of the next token."""
        return self.prefix + self.suffix


@dataclass(eq=False)
class Suffix:
    """Keys and values of the tokens after a prefix, stored at the beginning of larger tensors.

    Attributes:
        keys: [rows, heads, room, head_dim]; None before the first token.
        values: [rows, heads, room, value_dim].
        length: Number of filled positions.
        dropped: Number of earlier positions that have left the sliding window.
    """

    keys: torch.Tensor | None = None
    values: torch.Tensor | None = None
    length: int = 0
    dropped: int = 0

    @classmethod
    def of(cls, prefix: LayerPrefix, rows: int) -> Suffix:
        """Return a suffix that begins with a copy of a prefix for each of several rows."""
        suffix = cls(dropped=prefix.start)
        for block in prefix.blocks:
            keys, values = (tensor.expand(rows, -1, -1, -1) for tensor in (block.keys, block.values))
            suffix.append(keys, values, window=None, reserve=prefix.end - prefix.start + SUFFIX_ROOM)
        return suffix

    def append(self, keys: torch.Tensor, values: torch.Tensor, *, window: int | None, reserve: int) -> None:
        """Add the keys and values of new tokens.

        Args:
            keys: [rows, heads, new, head_dim].
            values: [rows, heads, new, value_dim].
            window: Number of positions that a token sees, including its own; None if all.
            reserve: Final length of the suffix; 0 if it is not known.
        """
        total = self.length + keys.shape[-2]
        if self.keys is None or self.values is None or total > self.keys.shape[-2]:
            # before growing, drop the positions that no later token sees, as growing copies the suffix anyway
            unseen = 0 if window is None else max(0, self.length - window + 1)
            self.length, self.dropped, total = self.length - unseen, self.dropped + unseen, total - unseen
            # positions leave the window, so the suffix never reaches the final length
            known = reserve if window is None else total
            room = known if reserve else total - total % -SUFFIX_ROOM
            self.keys = _grown(self.keys, keys, self.length, unseen, room)
            self.values = _grown(self.values, values, self.length, unseen, room)
        # in every layer of every step, where `narrow` takes a fraction of the time of an index
        self.keys.narrow(-2, self.length, total - self.length).copy_(keys)
        self.values.narrow(-2, self.length, total - self.length).copy_(values)
        self.length = total

    def between(self, start: int, end: int) -> Block:
        """Return keys and values of the positions from `start` up to `end`, counted from the end of the prefix."""
        assert self.keys is not None
        assert self.values is not None
        first = max(0, start - self.dropped)
        length = end - self.dropped - first
        return Block(self.keys.narrow(-2, first, length), self.values.narrow(-2, first, length))

    def keep(self, rows: torch.Tensor) -> None:
        """Keep some rows, int64 indices."""
        if self.keys is not None and self.values is not None:
            rows = rows.to(self.keys.device)
            self.keys, self.values = self.keys.index_select(0, rows), self.values.index_select(0, rows)

    def move_to(self, block: Block) -> None:
        """Store keys and values in other memory from now on, unless they are there; all other positions become zero.

        Args:
            block: [rows, heads, room, dim] each, of which position 0 is that of the first token after the prefix. Both
                may overlap with where the keys and values are, if no other suffix lies between the two places.
        """
        assert self.keys is not None
        assert self.values is not None
        self.keys = _moved(self.keys, block.keys, self.dropped, self.length)
        self.values = _moved(self.values, block.values, self.dropped, self.length)


def _moved(source: torch.Tensor, memory: torch.Tensor, start: int, length: int) -> torch.Tensor:
    """Copy the filled positions of a tensor into other memory, and return the part of it that begins with them."""
    target = memory.narrow(-2, start, memory.shape[-2] - start)
    if source.data_ptr() == target.data_ptr() and source.shape == target.shape:
        return target
    filled = source.narrow(-2, 0, length)
    if source.untyped_storage().data_ptr() == memory.untyped_storage().data_ptr():
        filled = filled.clone()
    memory.zero_()
    target.narrow(-2, 0, length).copy_(filled)
    return target


def _grown(filled: torch.Tensor | None, new: torch.Tensor, length: int, skip: int, room: int) -> torch.Tensor:
    grown = new.new_empty(*new.shape[:2], room, new.shape[-1])
    if filled is not None:
        grown[..., :length, :] = filled[..., skip : skip + length, :]
    return grown


class SharedAttentionLayer(CacheLayerMixin):  # type: ignore[no-untyped-call] # transformers leaves it untyped
    """Prefixes and suffixes of one attention layer.

    `update` returns only the new keys and values; the attention function reads the others from this layer (see
    `nad_agents.engine.hf.prefix.attention`).

    Args:
        window: Number of positions that a token sees, itself included; None if all.

    Attributes:
        window: See above.
        prefixes: The prefix of each group.
        suffixes: The suffixes of each group's rows.
        attended: Whether attention has been computed since the last update.
    """

    is_sliding = False

    def __init__(self, window: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # as above
        self.window = window
        self.groups: list[RowGroup] = []
        self.prefixes: list[LayerPrefix] = []
        self.suffixes: list[Suffix] = []
        self.attended = True
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Do nothing, as each suffix allocates its own memory."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the keys and values of new tokens, [rows of all groups, heads, new, dim], and return just these."""
        rows = [group.rows for group in self.groups]
        # a single group has all rows
        keys = torch.split(key_states, rows) if len(rows) > 1 else (key_states,)
        values = torch.split(value_states, rows) if len(rows) > 1 else (value_states,)
        for group, suffix, new_keys, new_values in zip(self.groups, self.suffixes, keys, values, strict=True):
            suffix.append(new_keys, new_values, window=self.window, reserve=group.reserve)
        self.attended = False
        return key_states, value_states

    def own_keys_and_values(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return the keys and values of some rows; None if the layer keeps none of its own."""
        return next(((one.keys, one.values) for one in self.suffixes if one.keys is not None), None)  # type: ignore[return-value] # both or none

    def move_to(self, block: Block) -> None:
        """Store the suffixes of all rows, in their order, in other memory from now on; see `Suffix.move_to`."""
        at = 0
        for group, suffix in zip(self.groups, self.suffixes, strict=True):
            rows = slice(at, at := at + group.rows)
            suffix.move_to(Block(block.keys[rows], block.values[rows]))

    def get_seq_length(self) -> int:
        """Return the greatest position of a row."""
        return max((group.position for group in self.groups), default=0)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the length and offset of the keys, which some models request although there is no mask."""
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        """Return -1, as the cache has no maximum length."""
        return -1


class SharedHybridLayer(LinearAttentionLayer, SharedAttentionLayer):  # type: ignore[no-untyped-call, override] # as above
    """A layer with attention and a recurrent state of every row.

    Args:
        window: See `SharedAttentionLayer`.
        number_of_states: Number of recurrent states.
    """

    is_compileable = False

    def __init__(self, window: int | None = None, number_of_states: int = 1) -> None:
        SharedAttentionLayer.__init__(self, window)
        LinearAttentionLayer.__init__(self, number_of_states=number_of_states)
