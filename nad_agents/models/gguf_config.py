"""Complete the config that transformers makes of a GGUF file's header, and refuse models that would still differ.

transformers copies some of the hyperparameters and replaces the others by the defaults of the family, which are those
of one model: other models of the family would then give wrong results. This module copies the missing values from the
header to the config. It refuses a model that does not have a place for every weight of the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gguf
from transformers import PreTrainedConfig, PreTrainedModel

from nad_agents.exceptions import UnsupportedModelError
from nad_agents.models.gguf_header import GGUFMetadata

if TYPE_CHECKING:
    from nad_agents.models.gguf_reading import HeaderReader

__all__ = ["check_all_weights_used", "completed_config"]

_NAMES: Mapping[str, tuple[str, ...]] = {
    "attention.layer_norm_epsilon": ("layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon"),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps"),
    "attention.key_length": ("head_dim",),
    "attention.sliding_window": ("sliding_window",),
    "attention.head_count_kv": ("num_kv_heads",),
    "context_length": ("n_positions",),
    "expert_feed_forward_length": ("moe_intermediate_size",),
    "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
    "feed_forward_length": ("ffn_hidden_size", "n_inner"),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
}
"""Hyperparameters that transformers reads only for some architectures, with their names in configs."""

_WIDE_HEADS: Mapping[str, int] = {"gemma2": 46, "gemma3": 62}
"""Number of layers, by family, of the one model whose attention is scaled by the width per head (llama.cpp)."""

_READ_WHOLE = frozenset({"qwen35", "qwen35moe", "lfm2"})
"""Architectures whose configs transformers reads completely, except for rescaled rotary frequencies."""

_EXACT = _READ_WHOLE | {
    *("falcon", "gemma2", "gemma3", "gpt-oss", "gpt2", "llama", "nemotron", "phi3", "qwen2", "qwen2moe", "qwen3"),
    *("qwen3moe", "stablelm", "starcoder2"),
}
"""Architectures whose converted models give the originals' outputs, which tests check for each of them."""

_FACTORS = re.compile(r"rope_freqs\.weight|rope_factors_(long|short)\.weight")
"""Tensors by which the rotary frequencies are divided."""

_NO_WEIGHTS = re.compile(rf"{_FACTORS.pattern}|blk\.\d+\.attn_rot_embd\.weight")
"""Names of tensors that belong to the config."""


def completed_config(config: PreTrainedConfig, metadata: GGUFMetadata, reader: HeaderReader) -> PreTrainedConfig:
    """Return a config with the hyperparameters that transformers did not take over from a file.

    Args:
        config: The config that transformers made of the header.
        metadata: The metadata in the header.
        reader: The reader that has read the header.

    Raises:
        UnsupportedModelError: Converted models of the architecture, or of this variant, would give wrong outputs.
    """
    if metadata.architecture not in _EXACT:
        msg = (
            f"GGUF files of the architecture {metadata.architecture!r} are not supported, as transformers may lose a "
            "part of them; use the original model folder"
        )
        raise UnsupportedModelError(msg)
    if metadata.architecture in _READ_WHOLE:
        if _scaling(config, metadata, reader):
            msg = f"rescaled rotary frequencies of the architecture {metadata.architecture!r} are not supported"
            raise UnsupportedModelError(msg)
        return config
    values, changes = metadata.hyperparameters, dict[str, Any]()
    for key, names in _NAMES.items():
        value = values.get(key)
        if isinstance(value, int | float):
            changes |= {name: value for name in names if hasattr(config, name)}
    if changes.get("sliding_window") == 0:
        changes["sliding_window"] = None  # this is how Phi-3's files say that there is no window
    if metadata.architecture == "falcon":
        changes |= _falcon(metadata, {tensor.name for tensor in reader.tensors})
    completed: Any = type(config).from_dict(config.to_dict() | changes)
    if metadata.architecture in _WIDE_HEADS:
        wide = completed.num_hidden_layers == _WIDE_HEADS[metadata.architecture]
        width = completed.hidden_size // completed.num_attention_heads if wide else completed.head_dim
        changes["query_pre_attn_scalar"] = width
    rope = getattr(completed, "rope_parameters", None)
    if isinstance(rope, dict):
        scaling = _scaling(completed, metadata, reader)
        if metadata.architecture == "gpt-oss":
            # the family's defaults are those of models with yarn; that its bounds are not rounded is in no file
            rope, scaling = {"rope_type": "default"}, scaling and {**scaling, "truncate": False}
        changes |= _rotary(completed, rope, values, scaling)
    result: PreTrainedConfig = type(config).from_dict(config.to_dict() | changes)
    return result


def check_all_weights_used(model: PreTrainedModel, metadata: GGUFMetadata, reader: HeaderReader, name: str) -> None:
    """Check that a model that transformers made of a file has as many weights as the file.

    Args:
        model: The model that transformers made.
        metadata: Metadata of the file.
        reader: The file's header, which lists its weights.
        name: Name of the model, for the error message.

    Raises:
        UnsupportedModelError: Weights of the file have no place in the model, so the model's outputs would be wrong.
    """
    config: Any = model.config
    tied = config.tie_word_embeddings
    stored = sum(
        int(tensor.n_elements)
        for tensor in reader.tensors
        if not _NO_WEIGHTS.fullmatch(tensor.name)
        # this is a copy of the embedding, possibly of another type
        and not (tied and tensor.name == "output.weight")
        # these layers after the last one only predict several tokens at a time
        and not ((layer := re.match(r"blk\.(\d+)\.", tensor.name)) and int(layer[1]) >= config.num_hidden_layers)
    )
    used = sum(parameter.numel() for parameter in model.parameters())
    if used != stored:
        msg = (
            f"{name} has {stored:,} weights and transformers' model of the architecture {metadata.architecture!r} "
            f"has {used:,}, so it would not answer as the file does; use the original model folder"
        )
        raise UnsupportedModelError(msg)


def _falcon(metadata: GGUFMetadata, tensors: set[str]) -> dict[str, Any]:
    if metadata.hyperparameters.get("attention.head_count_kv", 1) != 1:
        msg = (
            "the architecture 'falcon' with several heads of keys is stored in an order that transformers does not "
            "undo; use the original model folder"
        )
        raise UnsupportedModelError(msg)
    return {
        "multi_query": True,
        "new_decoder_architecture": False,
        "parallel_attn": "blk.0.ffn_norm.weight" not in tensors,
        "bias": "blk.0.attn_qkv.bias" in tensors,
    }


def _scaling(config: Any, metadata: GGUFMetadata, reader: HeaderReader) -> dict[str, Any]:
    """Return how a model rescales its rotary frequencies, as entries of transformers' rotary parameters."""
    values = metadata.hyperparameters
    factors = {
        tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type).tolist()
        for tensor in reader.tensors
        if _FACTORS.fullmatch(tensor.name)
    }
    original = values.get("rope.scaling.original_context_length", config.max_position_embeddings)
    if factors:
        # Llama 3's factors hold for any length, so the short and long factors are equal
        shared = factors.get("rope_freqs.weight")
        return {
            "rope_type": "longrope",
            "short_factor": shared or factors["rope_factors_short.weight"],
            "long_factor": shared or factors["rope_factors_long.weight"],
            "original_max_position_embeddings": original,
            "attention_factor": float(values.get("rope.scaling.attn_factor", 1.0)),
        }
    kind = values.get("rope.scaling.type", "none")
    if kind == "none":
        return {}
    if kind not in {"linear", "yarn"}:
        msg = f"rope.scaling.type {kind!r} of the architecture {metadata.architecture!r} is not supported"
        raise UnsupportedModelError(msg)
    scaling = {"rope_type": kind, "factor": float(values["rope.scaling.factor"])}
    if kind == "yarn":
        scaling["original_max_position_embeddings"] = original
        betas = {name: values.get(f"rope.scaling.yarn_{name}") for name in ("beta_fast", "beta_slow")}
        scaling |= {name: float(value) for name, value in betas.items() if value is not None}
    return scaling


def _rotary(
    config: Any, rope: Mapping[str, Any], values: Mapping[str, Any], scaling: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the header's parameters of rotary positions, as entries of the config."""
    found: dict[str, Any] = dict(scaling)
    if "rope.freq_base" in values:
        found["rope_theta"] = float(values["rope.freq_base"])
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    turned = values.get("rope.dimension_count")
    changes: dict[str, Any] = {}
    if isinstance(turned, int) and turned != width:
        found["partial_rotary_factor"] = turned / width
    elif isinstance(turned, int) and "partial_rotary_factor" in rope:
        found["partial_rotary_factor"] = 1.0
    # some configs have a field of their own, which transformers prefers
    for name in ("partial_rotary_factor", "original_max_position_embeddings"):
        if name in found and hasattr(config, name):
            changes[name] = found[name]
    if all(isinstance(part, Mapping) for part in rope.values()):
        # layers with a sliding window have their own frequencies, for which there is no key
        whole = {**rope, "full_attention": {**rope["full_attention"], **found}} if "full_attention" in rope else rope
        return changes | {"rope_parameters": whole}
    return changes | {"rope_parameters": {**rope, **found}}
