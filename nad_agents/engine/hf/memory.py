"""Estimate from the config how much memory N candidates take in addition to the weights, before generating them.

The estimate covers what grows with N: keys and values at full length, the logits of a step with the copies that
sampling makes, the recorder's buffer with what its reduction needs, and what is kept of every token until the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig

from nad_agents.engine.hf.prefix.batch import copying_rows
from nad_agents.engine.hf.prefix.layers import SUFFIX_ROOM
from nad_agents.exceptions import ConfigurationError
from nad_agents.neurons.recorder import BUFFER_BYTES
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.types import SamplingConfig

__all__ = ["LayerShape", "MemoryNeed", "ModelShape", "check_memory", "default_prefix_bytes", "memory_need"]

_LOGIT_COPIES = 5
"""float32 tensors [N, vocabulary] alive at once: logits, their clone, a processor's output, and two while drawing."""

_LOGIT_COPIES_SORTED = 8
"""The same where top_p without top_k sorts all logits: also values, int64 indices, softmax and cumulative sum."""

_HEAP_TENSOR = 32 * 2**20
"""On the host, tensors below this size (bytes) come from the C library's heap."""

_HEAP_HOLES = 1
"""Greatest measured share of a growing cache's size that its copies leave unused in that heap."""

_CACHED_PROMPTS, _CACHED_TOKENS = 4, 8192
"""Prompts for which the prefix cache has room by default, and their tokens: those of coding assistants."""

_CACHED_SHARE = 1 / 8
"""Greatest share of the available memory that the prefix cache takes by default."""


@dataclass(frozen=True)
class LayerShape:
    """The size of one layer's cache for a row.

    Attributes:
        width: Elements of the keys and values of one position, all heads together; 0 if no position is kept.
        window: Greatest number of positions that are kept; None if all are.
        state: Elements of the recurrent state; 0 if there is none.
    """

    width: int
    window: int | None = None
    state: int = 0


@dataclass(frozen=True)
class ModelShape:
    """The dimensions of a model that determine how much memory a row takes.

    Attributes:
        layers: Cache size of each layer.
        kv_heads: Greatest number of key and value heads of a layer.
        heads: Greatest number of attention heads of a layer.
        head_dim: Greatest dimension of a head.
        vocabulary: Size of the vocabulary.
        itemsize: Bytes per element of the model's dtype.
    """

    layers: tuple[LayerShape, ...]
    kv_heads: int
    heads: int
    head_dim: int
    vocabulary: int
    itemsize: int

    @classmethod
    def of(cls, config: PreTrainedConfig, dtype: torch.dtype) -> ModelShape:
        """Return the shape that a config describes; a model without attention has no heads."""
        text: Any = config.get_text_config(decoder=True)
        # the layers of a model may differ in number and size of heads, and its global config then has neither
        configs: Sequence[Any] = getattr(text, "per_layer_config", None) or (text,) * int(text.num_hidden_layers)
        kinds: Sequence[str] = getattr(text, "layer_types", None) or ("full_attention",) * len(configs)
        # older versions of transformers name only the number of layers at the end that reuse keys and values
        reusing = int(getattr(text, "num_kv_shared_layers", 0) or 0)
        modes = ("store",) * (len(configs) - reusing) + ("reuse",) * reusing
        sharing: Sequence[str] = getattr(text, "kv_sharing_modes", None) or modes
        layers = [
            LayerShape(0) if mode == "reuse" else _layer_shape(layer, kind)
            for layer, kind, mode in zip(configs, kinds, sharing, strict=True)
        ]
        heads = [_heads(layer) for layer in configs]
        return cls(
            tuple(layers),
            max(kv_heads for _, kv_heads, _ in heads),
            max(queries for queries, _, _ in heads),
            max(head_dim for _, _, head_dim in heads),
            int(text.vocab_size),
            dtype.itemsize,
        )

    def cache_bytes(self, rows: int, positions: int, *, spare: int = 0) -> int:
        """Return the bytes of the caches of some rows.

        Args:
            rows: Number of rows.
            positions: Number of positions of each row.
            spare: Positions that a layer with a sliding window keeps for a while after they have left the window.
        """
        elements = 0
        for layer in self.layers:
            kept = positions if layer.window is None else min(positions, layer.window + spare)
            elements += kept * layer.width + layer.state
        return rows * elements * self.itemsize


def _layer_shape(config: Any, kind: str) -> LayerShape:
    """Return the cache size of a layer, given its kind among transformers' `layer_types`."""
    if kind in {"mlp", "moe", "dummy"}:
        return LayerShape(0)
    state = _state_elements(config) if kind in {"linear_attention", "conv", "mamba", "hybrid", "hybrid_sliding"} else 0
    if kind in {"linear_attention", "conv", "mamba"}:
        return LayerShape(0, state=state)
    _, kv_heads, head_dim = _heads(config)
    latent = int(getattr(config, "kv_lora_rank", 0) or 0)
    width = latent + int(config.qk_rope_head_dim) if latent else 2 * kv_heads * head_dim
    return LayerShape(width, getattr(config, "sliding_window", None) if "sliding" in kind else None, state)


def _heads(config: Any) -> tuple[int, int, int]:
    """Return a layer's number of attention heads, its number of key and value heads, and their dimension."""
    heads = int(getattr(config, "num_attention_heads", 0) or 0)
    hidden = int(getattr(config, "hidden_size", 0) or 0)
    head_dim = int(getattr(config, "head_dim", 0) or (hidden // heads if heads else 0))
    return heads, _kv_heads(config, heads), head_dim


def _kv_heads(config: Any, heads: int) -> int:
    if getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False):
        return 1
    for name in ("num_key_value_heads", "num_kv_heads"):
        found = getattr(config, name, None)
        if found:
            return int(found)
    return heads


def _state_elements(config: Any) -> int:
    """Return the number of elements of a recurrent state and its convolution, from whichever names the config uses."""

    def first(*names: str) -> int:
        return next((int(value) for name in names if isinstance(value := getattr(config, name, None), int)), 0)

    kernel = first("linear_conv_kernel_dim", "mamba_d_conv", "conv_kernel", "conv_L_cache")
    if keys := first("linear_num_key_heads") * first("linear_key_head_dim"):
        values = first("linear_num_value_heads") * first("linear_value_head_dim")
        return values * first("linear_key_head_dim") + (2 * keys + values) * kernel
    channels = first("mamba_n_heads", "mamba_num_heads", "n_mamba_heads") * first(
        "mamba_d_head", "mamba_head_dim", "mamba_headdim"
    )
    channels = channels or first("mamba_expand", "expand") * first("hidden_size") or first("hidden_size")
    state = first("mamba_d_state", "ssm_state_size", "state_size")
    groups = first("mamba_n_groups", "n_groups", "mamba_ngroups")
    return channels * state + (channels + 2 * groups * state) * kernel


def default_prefix_bytes(shape: ModelShape, context_length: int | None, available: int | None) -> int:
    """Return how much memory the prefix cache may take if the user does not say.

    Args:
        shape: The model's dimensions.
        context_length: Greatest length of prompt and answer together, in tokens; None if the model does not say.
        available: Bytes available on the model's device beside the weights; None if unknown.

    Returns:
        Bytes for four prompts of 8,192 tokens, or of the whole context if it is shorter, within an eighth of the
        available memory.
    """
    room = shape.cache_bytes(_CACHED_PROMPTS, min(_CACHED_TOKENS, context_length or _CACHED_TOKENS))
    return room if available is None else min(room, int(_CACHED_SHARE * available))


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a request takes at its peak.

    Attributes:
        cache: On the device: keys and values, and the copies of one layer that a step makes.
        logits: On the device: the logits of one step, with the copies that sampling makes.
        recording: On the device: the recorder's buffer and its reduction.
        kept: On the host: tokens, signals and neuron ids of the candidates.
    """

    cache: int
    logits: int
    recording: int
    kept: int

    @property
    def device(self) -> int:
        """Bytes on the model's device."""
        return self.cache + self.logits + self.recording

    @property
    def total(self) -> int:
        """Bytes on device and host together."""
        return self.device + self.kept


def memory_need(
    shape: ModelShape,
    sampling: SamplingConfig,
    prompt: int,
    n: int,
    *,
    recording: RecordingConfig | None = None,
    widths: Sequence[int] = (),
    chunk_size: int = 32,
    on_heap: bool = False,
    shares_prompt: bool = False,
) -> MemoryNeed:
    """Estimate the memory that `n` candidates of full length take in addition to the weights.

    Args:
        shape: The model's dimensions.
        sampling: Token limit and filters; its `n` is ignored.
        prompt: Number of prompt tokens.
        n: Number of candidates.
        recording: Which neurons are recorded; None records nothing.
        widths: Feed-forward width of each recorded layer.
        chunk_size: Number of steps that the recorder's buffer holds if its size limit allows.
        on_heap: Whether the device's tensors come from the C library's heap, as those of the CPU do.
        shares_prompt: Whether all candidates attend to one copy of the prompt's keys and values.
    """
    positions = prompt + sampling.max_new_tokens
    # 1. a step makes the new keys of one layer before it frees the old ones
    head = shape.head_dim * shape.itemsize
    if shares_prompt:
        own, most = sampling.max_new_tokens + SUFFIX_ROOM, copying_rows(prompt, on_cpu=on_heap)
        # few rows with a copy of the prompt each may hold more than many that share it; more rows are not to need less
        suffixes = [(min(n, most), prompt + own), (n, own)]
        held = shape.cache_bytes(1, prompt)
        held += max(shape.cache_bytes(rows, length, spare=SUFFIX_ROOM) for rows, length in suffixes)
        cache = held + head * max(rows * length for rows, length in suffixes) * shape.kv_heads
    else:
        # plain attention also repeats grouped heads for all queries
        held = shape.cache_bytes(n, positions)
        cache = held + n * head * positions * (shape.kv_heads + 2 * shape.heads * (shape.heads > shape.kv_heads))
    if on_heap:
        cache += _HEAP_HOLES * min(held, 2 * len(shape.layers) * _HEAP_TENSOR)
    # 2. one step's logits
    sorts = sampling.top_p < 1 and sampling.temperature > 0 and not sampling.top_k
    copies = _LOGIT_COPIES_SORTED if sorts else _LOGIT_COPIES
    logits = copies * n * shape.vocabulary * 4
    # 3. the buffer, and its reduction: scores of one layer, their order as integers, the best of every layer
    buffer, width = 0, 0
    if recording is not None and widths:
        per_step = n * sum(widths) * shape.itemsize
        steps = max(1, min(chunk_size, BUFFER_BYTES[recording.score] // per_step))
        pool = sum(min(recording.top_k_neurons_per_layer, d_ff) for d_ff in widths)
        width = min(recording.top_k_neurons, pool)
        buffer = steps * per_step + steps * n * (max(widths) * (shape.itemsize + 12) + pool * 24)
    # 4. token, four signals and neurons of every token, once as drawn and once as handed out
    kept = 2 * n * sampling.max_new_tokens * (8 + 4 * 4 + 4 * width) + 2 * n * positions * 8
    return MemoryNeed(cache, logits, buffer, kept)


def check_memory(
    need: Callable[[int], MemoryNeed],
    n: int,
    max_new_tokens: int,
    *,
    device: int | None,
    host: int | None,
    shared: bool,
) -> None:
    """Refuse a request that does not fit into memory.

    Args:
        need: Function that maps a number of candidates to the memory that they take.
        n: Number of candidates in the request.
        max_new_tokens: The request's token limit, for the message.
        device: Bytes available on the model's device; None if unknown, which refuses nothing.
        host: Bytes available on the host; None if unknown.
        shared: Whether device and host are the same memory.

    Raises:
        ConfigurationError: The request does not fit. The message says how much it needs, how much is available, and
            the largest n that fits.
    """

    def fits(candidates: int) -> bool:
        wanted = need(candidates)
        if shared:
            return device is None or wanted.total <= device
        return (device is None or wanted.device <= device) and (host is None or wanted.kept <= host)

    if fits(n):
        return
    # the need grows with every candidate, so bisection finds the largest n
    largest, too_many = 0, n
    while too_many - largest > 1:
        middle = (largest + too_many) // 2
        largest, too_many = (middle, too_many) if fits(middle) else (largest, middle)
    wanted = need(n)
    on_device = shared or (device is not None and wanted.device > device)
    asked, there = (wanted.total if shared else wanted.device, device) if on_device else (wanted.kept, host)
    where = "" if shared else " on the GPU" if on_device else " on the host"
    advice = (
        f"the largest n that fits is {largest}; generate more in waves (wave={largest}), or lower max_new_tokens"
        if largest
        else "not even one candidate fits; lower max_new_tokens or shorten the prompt"
    )
    msg = (
        f"n={n} with max_new_tokens={max_new_tokens} needs about {_size(asked)}{where} beside the weights "
        f"(cache {_size(wanted.cache)}, logits {_size(wanted.logits)}, recording {_size(wanted.recording)}, "
        f"candidates {_size(wanted.kept)}), and {_size(there or 0)} are available; {advice}"
    )
    raise ConfigurationError(msg)


def _size(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"
