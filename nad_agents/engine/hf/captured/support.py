"""Which models' decoding steps can be captured, and why others cannot."""

from __future__ import annotations

from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import LinearAttentionLayer

from nad_agents.engine.hf.prefix.support import sharing_obstacle

__all__ = ["capture_obstacle", "rope_follows_length"]

_LENGTH_DEPENDENT_ROPE = {"dynamic", "longrope"}
"""Rotary embeddings that turn the keys by the length of what a forward pass reads."""


def rope_follows_length(config: PreTrainedConfig) -> bool:
    """Return whether a model's rotary embeddings depend on the length of what a forward pass reads."""
    parameters = getattr(config.get_text_config(decoder=True), "rope_parameters", None) or {}
    kinds = {part.get("rope_type") for part in (parameters, *parameters.values()) if isinstance(part, dict)}
    return bool(kinds & _LENGTH_DEPENDENT_ROPE)


def capture_obstacle(model: PreTrainedModel) -> str:
    """Return why a model's decoding step cannot be captured in a CUDA graph; an empty text if nothing is known.

    The first call for a model runs it on two tokens, so it must not be made while the model generates. Whether a graph
    computes what the model computes is found out when it is captured (see `nad_agents.engine.hf.captured.self_check`).
    """
    if obstacle := sharing_obstacle(model):
        return obstacle
    if any(isinstance(layer, LinearAttentionLayer) for layer in DynamicCache(config=model.config).layers):
        return "its layers have recurrent states"
    if any(hasattr(type(module), "expand_kv") for module in model.modules()):
        return "its attention computes keys and values anew in every step"
    return "its rotary embeddings depend on the length of the text" if rope_follows_length(model.config) else ""
