"""Find out by a trial which models can attend to a shared prefix, and why others cannot."""

from __future__ import annotations

import inspect
import weakref

import torch
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicSlidingWindowLayer, LinearAttentionLayer

from nad_agents.engine.hf.prefix.attention import UnsplittableAttentionError, shared_prefix_attention
from nad_agents.engine.hf.prefix.blocks import Prefix
from nad_agents.engine.hf.prefix.cache import SharedPrefixCache, unshareable_layers

__all__ = ["continues_states", "reusable_prefixes", "sharing_obstacle"]

_PROBE_TOKENS = 2
"""Number of tokens in the forward pass that tries the model's attention."""

_CONTINUING = {
    "bamba",
    "falcon_h1",
    "granitemoehybrid",
    "lfm2",
    "lfm2_moe",
    "nemotron_h",
    "qwen3_5_moe_text",
    "qwen3_5_text",
    "qwen3_next",
    "zamba2",
}
"""Model types whose recurrent layers can read several tokens starting from an earlier state."""

_obstacles: weakref.WeakKeyDictionary[PreTrainedModel, str] = weakref.WeakKeyDictionary()


def continues_states(config: PreTrainedConfig) -> bool:
    """Return whether the model's recurrent layers, if it has any, can read a prompt in pieces.

    The recurrent layers of other models restart with every pass over several tokens.
    """
    return config.get_text_config(decoder=True).model_type in _CONTINUING


def sharing_obstacle(model: PreTrainedModel) -> str:
    """Return why the candidates of a request cannot attend to one prefix; an empty text if they can.

    The first call for a model runs it on two tokens, so it must not be made while the model generates.
    """
    if model not in _obstacles:
        _obstacles[model] = _find_obstacle(model)
    return _obstacles[model]


def reusable_prefixes(model: PreTrainedModel) -> str:
    """Describe how much of an earlier prompt with the same beginning a new prompt can reuse."""
    cache = DynamicCache(config=model.config)
    windows = [layer for layer in cache.layers if isinstance(layer, DynamicSlidingWindowLayer)]
    states = [layer for layer in cache.layers if isinstance(layer, LinearAttentionLayer)]
    if sharing_obstacle(model) and (windows or states or unshareable_layers(cache)):
        return "nothing of an earlier prompt is used again, as not all layers keep every position"
    if states and not continues_states(model.config):
        return "an earlier prompt is used again only by the same prompt, as its recurrent layers begin anew"
    if states or windows:
        what = "a recurrent state" if states else "a sliding window"
        return f"an earlier prompt is used again by prompts that go on from its end, as {what} cannot go back"
    return "the longest beginning of any earlier prompt is used again"


def _find_obstacle(model: PreTrainedModel) -> str:
    text = model.config.get_text_config(decoder=True)
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return "it takes no positions"
    if "chunked_attention" in (getattr(text, "layer_types", None) or ()):
        return "its layers attend within chunks"
    cache = DynamicCache(config=model.config)
    if layers := unshareable_layers(cache):
        return f"its cache has layers of the kind {', '.join(layers)}"
    return _try(model, cache)


@torch.inference_mode()
def _try(model: PreTrainedModel, like: DynamicCache) -> str:
    """Run the model on two tokens, and check that the attention of every layer with keys was computed in parts."""
    cache = SharedPrefixCache(like)
    cache.add_group(Prefix(0, {}, {}), 1)
    tokens = torch.zeros(1, _PROBE_TOKENS, dtype=torch.long, device=model.device)
    try:
        with shared_prefix_attention(model, cache):
            model(
                input_ids=tokens,
                position_ids=cache.positions(_PROBE_TOKENS, model.device),
                past_key_values=cache,
                use_cache=True,
            )
    except UnsplittableAttentionError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever the model's code stumbles over, the plain path is there
        return f"its code does not take such a cache: {type(error).__name__}: {error}"
    if cache.unattended():
        return "its attention does not go through transformers' AttentionInterface"
    return "" if cache.has_keys else "none of its layers keeps keys and values"
