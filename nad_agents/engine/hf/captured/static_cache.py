"""Keys and values of a batch at addresses that stay the same, and the cache through which a captured step uses them.

Row r's key of position p is at [r, :, p] of its layer's buffer. A step looks at the whole buffer, up to a rounded
length; a mask hides the positions that a row has not reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

from nad_agents.engine.hf.prefix.blocks import Block
from nad_agents.engine.hf.prefix.cache import SharedPrefixCache
from nad_agents.engine.hf.prefix.partial_attention import flash_kernel

__all__ = ["StaticBuffers", "StaticStepCache"]


class StaticLayer(CacheLayerMixin):  # type: ignore[no-untyped-call] # transformers leaves it untyped
    """Keys and values of one layer, whose size stays the same.

    Args:
        keys: [rows, heads, length, head_dim]; None for a layer that keeps none of its own.
        values: [rows, heads, length, value_dim].
        columns: int64 [rows, 1, 1, 1], the position at which each row's new key and value are stored.
        window: Number of positions that a token sees, itself included; None if all.
    """

    is_sliding = False

    def __init__(
        self, keys: torch.Tensor | None, values: torch.Tensor | None, columns: torch.Tensor, window: int | None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # as above
        self.keys, self.values = keys, values
        self.window = window
        self._columns = columns
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Do nothing, as the memory is there."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the key and value of one new token per row, and return those of all positions.

        Raises:
            RuntimeError: The layer has kept no keys and values so far.
        """
        if self.keys is None or self.values is None:
            raise RuntimeError("a layer that kept no keys and values before has some now")
        for stored, new in ((self.keys, key_states), (self.values, value_states)):
            stored.scatter_(2, self._columns.expand(-1, new.shape[1], 1, new.shape[3]), new)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Return the length of the buffer, since no number on the host may say how much of it is filled."""
        return 0 if self.keys is None else self.keys.shape[2]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:  # noqa: ARG002 - transformers' signature
        """Return the length and offset of the keys, which some models request although there is no mask."""
        return self.get_seq_length(), 0

    def get_max_length(self) -> int:
        """Return the length of the buffer."""
        return self.get_seq_length()


class StaticStepCache(Cache):
    """The cache of a step that depends on nothing but static tensors.

    Args:
        layers: A layer for every layer of the model's cache.
        positions: int64 [rows], the position of each row's next token.
        dtype: Dtype of the queries.
    """

    def __init__(self, layers: Sequence[Any], positions: torch.Tensor, dtype: torch.dtype) -> None:
        super().__init__(layers=list(layers))
        self._positions = positions
        self._dtype = dtype
        # by the very tensors that `update` returns; a model that changes them first cannot be served
        self._layers = {id(layer.keys): layer for layer in layers if getattr(layer, "keys", None) is not None}
        self._masks: dict[int | None, torch.Tensor] = {}

    def begin_step(self) -> None:
        """Compute from the positions what each row sees; has to be called within the step, before the model."""
        for window in {layer.window for layer in self._layers.values()}:
            length = max(layer.keys.shape[2] for layer in self._layers.values())
            columns = torch.arange(length, device=self._positions.device)[None]
            rows = self._positions[:, None]
            hidden = columns > rows
            if window is not None:
                hidden = hidden | (columns <= rows - window)
            mask = torch.zeros(hidden.shape, dtype=self._dtype, device=hidden.device)
            self._masks[window] = mask.masked_fill_(hidden, -torch.inf)[:, None, None]

    def attend(
        self,
        query: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        *,
        scale: float,
        softcap: float | None,
        sinks: torch.Tensor | None,
    ) -> torch.Tensor | None:
        """Attend from one token of every row, [rows, heads, 1, dim] to [rows, 1, heads, dim].

        Args:
            query: The queries.
            keys: The keys that `update` returned to the model.
            values: The values that `update` returned to the model.
            scale: Factor of the scores.
            softcap: Bound of the scores; None if there is none.
            sinks: [heads], a score per head that takes its share of the weights and adds no value.

        Returns:
            None if the keys or values are not those of a layer.
        """
        layer = self._layers.get(id(keys))
        if layer is None or values is not layer.values:
            return None
        mask = self._masks[layer.window]
        rows, heads, _, dim = query.shape
        kv_heads = keys.shape[1]
        # the queries that share a head of keys form a block
        query = query.reshape(rows, kv_heads, heads // kv_heads, dim)
        if softcap is None and sinks is None:
            return _masked_attention(query, keys, values, mask, scale).reshape(rows, 1, heads, -1)
        scores = (query @ keys.mT).float() * scale
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        scores = scores + mask
        if sinks is not None:
            sink = sinks.float().view(1, kv_heads, -1, 1).expand(rows, -1, -1, 1)
            scores = torch.cat([scores, sink], -1)
        weights: torch.Tensor = scores.softmax(-1)[..., : keys.shape[2]]
        return torch.matmul(weights.to(values.dtype), values).reshape(rows, 1, heads, -1)


def _masked_attention(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, scale: float
) -> torch.Tensor:
    """Attend with a mask that is added to the scores, by the same kernel on every GPU that has it.

    Where torch may choose, it prefers cuDNN on some GPUs, which compiles a kernel for every number of rows and
    positions, and may unload the kernels when the thread that captured them ends.
    """
    kernel = flash_kernel(query.device, query.dtype, query.shape[-1])
    if kernel in {"flash", "efficient"} and values.shape[-1] % 8 == 0:
        # a kernel of FlashAttention has a memory-efficient one beside it, which takes masks
        mask = mask.expand(*query.shape[:3], keys.shape[2])
        return torch._scaled_dot_product_efficient_attention(query, keys, values, mask, False, scale=scale)[0]
    return scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scale)


class StaticBuffers:
    """The tensors that captured steps read and write.

    Attributes:
        rows: Number of rows for which there is room.
        length: Number of positions for which there is room.
        tokens: int64 [rows], the tokens that the next step reads.
        positions: int64 [rows], their positions; 0 in rows that nobody uses.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.free()

    def free(self) -> None:
        """Free the memory; suffixes that are views of it keep it as long as they live."""
        self.rows = self.length = 0
        self.tokens = self.positions = torch.zeros(0, dtype=torch.long, device=self._device)
        self._layers: dict[int, Block] = {}

    @property
    def bytes_held(self) -> int:
        """Bytes of the keys and values."""
        return sum(block.keys.nbytes + block.values.nbytes for block in self._layers.values())

    @staticmethod
    def bytes_needed(cache: SharedPrefixCache, rows: int, length: int) -> int:
        """Return the bytes of the keys and values of so many rows and positions."""
        size = 0
        for layer in cache.attention_layers.values():
            for tensor in layer.own_keys_and_values() or ():
                size += rows * length * tensor.shape[1] * tensor.shape[3] * tensor.itemsize
        return size

    def allocate(self, cache: SharedPrefixCache, rows: int, length: int) -> None:
        """Allocate room for a cache's rows and move them there, one layer after the other.

        Args:
            cache: The cache.
            rows: Number of rows; at least those of the cache.
            length: Number of positions; more than any row has.
        """
        self.rows, self.length = rows, length
        self.tokens = torch.zeros(rows, dtype=torch.long, device=self._device)
        self.positions = torch.zeros_like(self.tokens)
        kept, self._layers = self._layers, {}
        for index, layer in cache.attention_layers.items():
            kept.pop(index, None)
            if like := layer.own_keys_and_values():
                # not empty: a masked position has weight 0, and 0 times what is not a number is not 0
                block = Block(*(one.new_zeros(rows, one.shape[1], length, one.shape[3]) for one in like))
                self._layers[index] = block
                layer.move_to(block)

    def adopt(self, cache: SharedPrefixCache) -> None:
        """Make the suffixes of all rows views of the buffers; rows that are there already stay, others are copied."""
        for index, block in self._layers.items():
            cache.attention_layers[index].move_to(block)

    def set_positions(self, positions: torch.Tensor) -> None:
        """Set the positions of the next tokens, int64 [used rows]."""
        self.positions.zero_()
        self.positions[: len(positions)] = positions

    def step_cache(self, cache: SharedPrefixCache, rows: int, length: int) -> StaticStepCache:
        """Return a cache over the first rows and positions of the buffers, with the layers of another cache."""
        positions = self.positions[:rows]
        columns = positions[:, None, None, None]
        layers: list[Any] = []
        for index, like in enumerate(cache.layers):
            if index not in cache.attention_layers:
                layers.append(like)
                continue
            window, block = cache.windows[index], self._layers.get(index)
            if block is None:
                layers.append(StaticLayer(None, None, columns, window))
            else:
                keys, values = (tensor[:rows].narrow(2, 0, length) for tensor in (block.keys, block.values))
                layers.append(StaticLayer(keys, values, columns, window))
        dtype = next(iter(self._layers.values())).keys.dtype
        return StaticStepCache(layers, positions, dtype)
