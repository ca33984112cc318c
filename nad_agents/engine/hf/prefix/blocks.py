"""Keys and values of prompts, cut into immutable blocks that requests share by references."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

__all__ = ["Block", "LayerPrefix", "Prefix", "RecurrentState"]


@dataclass(frozen=True, eq=False)
class Block:
    """Keys and values of consecutive positions of one layer; a block is immutable.

    Attributes:
        keys: [1, heads, positions, head_dim].
        values: [1, heads, positions, value_dim].
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __len__(self) -> int:
        """Return the number of positions."""
        return int(self.keys.shape[-2])

    def cut(self, start: int, end: int) -> Block:
        """Return a view of some of the positions."""
        if start <= 0 and end >= len(self):
            return self
        return Block(self.keys[..., max(0, start) : end, :], self.values[..., max(0, start) : end, :])


@dataclass(frozen=True, eq=False)
class LayerPrefix:
    """The keys and values of a prompt in one attention layer.

    Attributes:
        blocks: The blocks, in order; empty for a prompt of one token.
        start: Position of the first key; above 0 if a sliding window has dropped the prompt's beginning.
    """

    blocks: tuple[Block, ...] = ()
    start: int = 0

    @property
    def end(self) -> int:
        """Position after the last key."""
        return self.start + sum(map(len, self.blocks))

    def between(self, start: int, end: int) -> list[Block]:
        """Return the kept keys and values of the positions from `start` up to `end`."""
        found, at = [], self.start
        for block in self.blocks:
            part = block.cut(start - at, end - at) if start < at + len(block) and end > at else None
            if part is not None:
                found.append(part)
            at += len(block)
        return found

    def joined(self, positions: int) -> LayerPrefix:
        """Return a copy whose last blocks are merged into one block of at most `positions` positions."""
        blocks = list(self.blocks)
        tail = [blocks.pop()] if blocks else []
        while blocks and sum(map(len, tail)) + len(blocks[-1]) <= positions:
            tail.insert(0, blocks.pop())
        if len(tail) < 2:
            return self
        keys, values = (torch.cat([getattr(block, name) for block in tail], dim=-2) for name in ("keys", "values"))
        return LayerPrefix((*blocks, Block(keys, values)), self.start)

    def up_to(self, end: int) -> LayerPrefix:
        """Return a copy without the positions from `end` on."""
        return LayerPrefix(tuple(self.between(self.start, end)), self.start)


@dataclass(frozen=True, eq=False)
class RecurrentState:
    """The state of one recurrent layer after the last token of a prompt, batch size 1.

    Attributes:
        conv: States of the layer's convolutions by index.
        recurrent: Recurrent states by index; None for a convolution without a recurrent state.
    """

    conv: dict[int, torch.Tensor | None]
    recurrent: dict[int, torch.Tensor | None]


@dataclass(frozen=True, eq=False)
class Prefix:
    """The keys, values and states of all layers for a prompt that has been read.

    Attributes:
        length: Number of tokens.
        attention: Keys and values by the index of the attention layer.
        states: States by the index of the recurrent layer; a layer may have keys, values and states.
    """

    length: int
    attention: dict[int, LayerPrefix]
    states: dict[int, RecurrentState]

    def storages(self) -> Iterator[tuple[int, int]]:
        """Yield the address and size in bytes of each piece of memory; prefixes that share blocks share memory."""
        tensors: list[torch.Tensor | None] = []
        for layer in self.attention.values():
            tensors += [tensor for block in layer.blocks for tensor in (block.keys, block.values)]
        for state in self.states.values():
            tensors += [*state.conv.values(), *state.recurrent.values()]
        for tensor in tensors:
            if tensor is not None:
                storage = tensor.untyped_storage()
                yield storage.data_ptr(), storage.nbytes()

    def up_to(self, length: int, windows: Sequence[int | None]) -> Prefix | None:
        """Return the prefix of the first tokens only.

        Args:
            length: Number of tokens.
            windows: For each layer, the number of positions that a token sees, including its own; None if all.

        Returns:
            The prefix, whose blocks are views of the original blocks; None if a recurrent layer or a sliding window no
            longer has the state after these tokens.
        """
        if length == self.length:
            return self
        if self.states:
            return None
        for index, layer in self.attention.items():
            window = windows[index]
            needed = 0 if window is None else max(0, length - window + 1)
            if layer.start > needed:
                return None
        return Prefix(length, {index: layer.up_to(length) for index, layer in self.attention.items()}, {})
