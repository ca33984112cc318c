"""Keys and values of prompts, cut into immutable blocks that requests share by references."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

__all__ = ["Block", "LayerPrefix", "Prefix", "RecurrentState"]


@dataclass(frozen=True, eq=False)
class Block:
    """Keys and values of consecutive positions of one layer; nothing changes them once they are in a block.

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
    """What an attention layer keeps of a prompt.

    Attributes:
        blocks: Its keys and values, in order; none of a prompt of one token.
        start: Position of the first key; above 0 where a sliding window has left the prompt's beginning behind.
    """

    blocks: tuple[Block, ...] = ()
    start: int = 0

    @property
    def end(self) -> int:
        """Position after the last key."""
        return self.start + sum(map(len, self.blocks))

    def between(self, start: int, end: int) -> list[Block]:
        """Return the keys and values of the positions from `start` up to `end`, those that are kept."""
        found, at = [], self.start
        for block in self.blocks:
            part = block.cut(start - at, end - at) if start < at + len(block) and end > at else None
            if part is not None:
                found.append(part)
            at += len(block)
        return found

    def joined(self, positions: int) -> LayerPrefix:
        """Return the same with its last blocks copied into one as long as that has at most so many positions."""
        blocks = list(self.blocks)
        tail = [blocks.pop()] if blocks else []
        while blocks and sum(map(len, tail)) + len(blocks[-1]) <= positions:
            tail.insert(0, blocks.pop())
        if len(tail) < 2:
            return self
        keys, values = (torch.cat([getattr(block, name) for block in tail], dim=-2) for name in ("keys", "values"))
        return LayerPrefix((*blocks, Block(keys, values)), self.start)

    def up_to(self, end: int) -> LayerPrefix:
        """Return the same without the positions from `end` on."""
        return LayerPrefix(tuple(self.between(self.start, end)), self.start)


@dataclass(frozen=True, eq=False)
class RecurrentState:
    """What a recurrent layer keeps of a prompt: the state after its last token, batch size 1.

    Attributes:
        conv: States of the layer's convolutions by index.
        recurrent: Its recurrent states by index; None for a convolution without one.
    """

    conv: dict[int, torch.Tensor | None]
    recurrent: dict[int, torch.Tensor | None]


@dataclass(frozen=True, eq=False)
class Prefix:
    """What all layers keep of a prompt that has been read.

    Attributes:
        length: Number of tokens.
        attention: What each attention layer keeps, by the layer's index.
        states: What each recurrent layer keeps, by the layer's index; a layer may have both.
    """

    length: int
    attention: dict[int, LayerPrefix]
    states: dict[int, RecurrentState]

    def storages(self) -> Iterator[tuple[int, int]]:
        """Yield address and bytes of the memory behind the prefix; prefixes that share blocks share memory."""
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
            windows: For each layer the number of positions that a token sees, itself included; None if all.

        Returns:
            The prefix, whose blocks are views of these; None if a recurrent layer or a sliding window has already left
            these tokens behind.
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
