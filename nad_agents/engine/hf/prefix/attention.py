"""The attention function over a shared prefix, and a context in which a model calls it.

For every call, transformers looks up an attention function by the name in the model's config. The context changes that
name while the engine steps. The function serves the engine's thread only: other threads that use the model meanwhile
get the attention and the masks of the implementation that the model was loaded with.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypedDict

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from nad_agents.engine.hf.captured.static_cache import StaticStepCache
from nad_agents.engine.hf.prefix.blocks import Block
from nad_agents.engine.hf.prefix.cache import SharedPrefixCache
from nad_agents.engine.hf.prefix.layers import SharedAttentionLayer, Suffix
from nad_agents.engine.hf.prefix.partial_attention import PartialAttention, attend, merge, merged_output

__all__ = ["UnsplittableAttentionError", "shared_prefix_attention"]

_NAME = "nad_shared_prefix"

_UNKNOWN = frozenset({"position_bias", "indices", "block_indices", "sinks", "alibi"})
"""Arguments that change the scores in ways that partial attention does not support."""

_originals: dict[str, str] = {}
"""Name of the implementation that each registered implementation replaces."""

_configs: weakref.WeakKeyDictionary[PreTrainedModel, list[Any]] = weakref.WeakKeyDictionary()
"""The distinct configs in which the decoder's layers look up their attention, by model."""


class _Running(threading.local):
    cache: SharedPrefixCache | StaticStepCache | None = None


_running = _Running()


class UnsplittableAttentionError(Exception):
    """The model's attention cannot be computed in parts, so the engine uses a batch without shared prompts."""


@contextmanager
def shared_prefix_attention(model: PreTrainedModel, cache: SharedPrefixCache | StaticStepCache) -> Iterator[None]:
    """Make a model attend as a cache of this project requires while the block runs in this thread.

    Args:
        model: The model; its attention must go through transformers' `AttentionInterface`.
        cache: The cache that the caller passes to the model.
    """
    configs = _configs.get(model) or _configs.setdefault(model, _attention_configs(model))
    before = [config._attn_implementation for config in configs]
    for config, name in zip(configs, before, strict=True):
        config._attn_implementation_internal = _registered(name or "eager")
    _running.cache = cache
    try:
        yield
    finally:
        _running.cache = None
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation_internal = name


def _attention_configs(model: PreTrainedModel) -> list[Any]:
    text = model.config.get_text_config(decoder=True)
    # a layer has its own config if the layers differ
    found: list[Any] = [text]
    found += [module.config for module in model.modules() if hasattr(module, "layer_idx") and hasattr(module, "config")]
    return list({id(config): config for config in found}.values())


def _registered(original: str) -> str:
    """Return the name of the function that replaces an implementation, registering the function if necessary."""
    if original in _originals:  # another thread is inside such a block, so the name is already changed
        return original
    for name, known in _originals.items():
        if known == original:
            return name
    # the name must not contain the original's, as transformers searches names for words
    name = f"{_NAME}_{len(_originals)}"
    _originals[name] = original

    def attention(module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        if _running.cache is not None:
            return _attention(_running.cache, module, *args, **kwargs)
        # calls of other threads use the model's own implementation
        eager: Any = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
        function: Any = ALL_ATTENTION_FUNCTIONS.get_interface(original, eager)
        result: tuple[torch.Tensor, torch.Tensor | None] = function(module, *args, **kwargs)
        return result

    def mask(*args: Any, **kwargs: Any) -> Any:
        return None if _running.cache is not None else ALL_MASK_ATTENTION_FUNCTIONS[original](*args, **kwargs)

    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, mask)
    return name


def _attention(
    cache: SharedPrefixCache | StaticStepCache,
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Compute attention as transformers' functions do, [rows, heads, tokens, head_dim] to [rows, tokens, heads, dim].

    Raises:
        UnsplittableAttentionError: The attention depends on more than queries, keys and positions.
    """
    unknown = sorted(name for name in _UNKNOWN & kwargs.keys() if kwargs[name] is not None)
    if attention_mask is not None:
        unknown.append("a mask of its own")
    if unknown:
        raise UnsplittableAttentionError(f"its attention takes {', '.join(unknown)}")
    scale = float(scaling if scaling is not None else query.shape[-1] ** -0.5)
    if isinstance(cache, StaticStepCache):
        attended = cache.attend(query, key, value, scale=scale, softcap=softcap, sinks=s_aux)
        if attended is None:
            raise UnsplittableAttentionError("its attention changes keys or values that come from the cache")
        return attended, None
    # a module looks up what it lacks in several dictionaries, its class does not
    layer = cache.layer_of(key, value, expanded=hasattr(type(module), "expand_kv"))
    if layer is None:
        raise UnsplittableAttentionError("its attention changes keys or values that come from the cache")
    # a single group has all rows
    parts = torch.split(query, [group.rows for group in cache.groups]) if len(cache.groups) > 1 else (query,)
    outputs = []
    for number, rows in enumerate(parts):
        split = _GroupAttention(layer, number, module, scale=scale, softcap=softcap, sinks=s_aux)
        outputs.append(split.next_token(rows) if rows.shape[2] == 1 else split.prompt(rows))
    output = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
    return output if output.dtype == query.dtype else output.to(query.dtype), None


class _Options(TypedDict):
    scale: float
    softcap: float | None


class _GroupAttention:
    """Computes the attention of one request's rows in one layer.

    Args:
        layer: The cache's layer.
        number: Number of the group.
        module: The model's attention module.
        scale: Factor of the scores.
        softcap: Bound of the scores; None if there is none.
        sinks: [heads], a score per head that takes its share of the weights and adds no value.
    """

    def __init__(
        self,
        layer: SharedAttentionLayer,
        number: int,
        module: Any,
        *,
        scale: float,
        softcap: float | None,
        sinks: torch.Tensor | None,
    ) -> None:
        self._group = layer.groups[number]
        self._prefix = layer.prefixes[number]
        self._suffix: Suffix = layer.suffixes[number]
        self._window = layer.window
        self._sinks = sinks
        self._options: _Options = {"scale": scale, "softcap": softcap}
        # multi-head latent attention caches the latents from which keys and values are computed
        self._expand = module.expand_kv if hasattr(type(module), "expand_kv") else None

    def next_token(self, query: torch.Tensor) -> torch.Tensor:
        """Attend from one token of every row: [rows, heads, 1, dim] to [rows, 1, heads, dim]."""
        rows, heads, _, dim = query.shape
        position = self._group.position
        first = 0 if self._window is None else max(0, position - self._window + 1)
        own = self._expanded(self._suffix.between(first - self._group.prefix, self._group.suffix + 1))
        kv_heads = own.keys.shape[1]
        query = query.view(rows, kv_heads, heads // kv_heads, dim)
        # 1. every row's own tokens
        result = attend(query, own.keys, own.values, **self._options)
        # 2. the prefix, to which the queries of all rows attend as one block
        kept_blocks = self._prefix.between(first, self._group.prefix)
        block = query.transpose(0, 1).reshape(1, kv_heads, -1, dim) if kept_blocks else query
        part: PartialAttention | None = None
        for keys_and_values in kept_blocks:
            kept = self._expanded(keys_and_values)
            attended = attend(block, kept.keys, kept.values, **self._options)
            part = attended if part is None else merge(part, attended)
        # 3. merge both
        if part is not None:
            output = part.output.reshape(kv_heads, rows, heads // kv_heads, -1).transpose(0, 1)
            lse = part.lse.reshape(kv_heads, rows, heads // kv_heads).transpose(0, 1)
            if self._sinks is None:
                return merged_output(result, PartialAttention(output, lse)).reshape(rows, 1, heads, -1)
            result = merge(result, PartialAttention(output, lse))
        output = result.output
        if self._sinks is not None:
            output = output * self._share_beside_sinks(result.lse, self._sinks.view(kv_heads, -1))
        return output.reshape(rows, 1, heads, -1)

    def prompt(self, query: torch.Tensor) -> torch.Tensor:
        """Attend from several tokens of the only row: [1, heads, tokens, dim] to [1, tokens, heads, dim]."""
        _, heads, tokens, dim = query.shape
        read = self._group.suffix
        own = self._expanded(self._suffix.between(read, read + tokens))
        kv_heads = own.keys.shape[1]
        groups = heads // kv_heads
        mask = self._window_mask(tokens, query.device)
        # 1. the tokens of this piece, each of which sees those before it
        repeated = Block(own.keys.repeat_interleave(groups, 1), own.values.repeat_interleave(groups, 1))
        piece = None if mask is None else mask[:, -tokens:]
        result = attend(query, repeated.keys, repeated.values, causal=True, mask=piece, **self._options)
        # 2. all earlier tokens, whose heads are shared by groups of queries
        block = query.reshape(1, kv_heads, groups * tokens, dim)
        position = self._group.position
        first = 0 if self._window is None else max(0, position - self._window + 1)
        earlier = self._prefix.between(first, self._group.prefix)
        if read > self._suffix.dropped:
            earlier.append(self._suffix.between(max(self._suffix.dropped, first - self._group.prefix), read))
        at = 0
        for keys_and_values in earlier:
            kept = self._expanded(keys_and_values)
            shown = None if mask is None else mask[:, at : (at := at + len(kept))].repeat(groups, 1)
            part = attend(block, kept.keys, kept.values, mask=shown, **self._options)
            output = part.output.reshape(1, heads, tokens, -1)
            result = merge(result, PartialAttention(output, part.lse.reshape(1, heads, tokens)))
        output = result.output
        if self._sinks is not None:
            output = output * self._share_beside_sinks(result.lse, self._sinks.view(heads, 1))
        return output.transpose(1, 2)

    def _window_mask(self, tokens: int, device: torch.device) -> torch.Tensor | None:
        """Return which earlier positions each token of a piece sees, bool [tokens, positions]; None if all see all."""
        position = self._group.position
        if self._window is None or position + tokens <= self._window:
            return None
        queries = torch.arange(position, position + tokens, device=device)[:, None]
        keys = torch.arange(max(0, position - self._window + 1), position + tokens, device=device)
        return keys > queries - self._window

    def _expanded(self, block: Block) -> Block:
        return block if self._expand is None else Block(*self._expand(block.keys, block.values))

    @staticmethod
    def _share_beside_sinks(lse: torch.Tensor, sinks: torch.Tensor) -> torch.Tensor:
        """Return the share of the attention weights that is left for the keys, [..., 1]."""
        return torch.sigmoid(lse - sinks.float())[..., None]
