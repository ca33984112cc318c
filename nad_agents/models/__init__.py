"""Load models: by hub id, from a local folder or a GGUF file, or the small default model.

GGUF files are converted once to safetensors; the converted models are kept in a cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nad_agents.lazy_imports import lazy_imports

if TYPE_CHECKING:
    from nad_agents.models.cache import CacheEntry, cache_dir, describe_cache
    from nad_agents.models.device import resolve_device, resolve_dtype
    from nad_agents.models.embedded import DEFAULT_MODEL
    from nad_agents.models.loading import LoadedModel, load_model, read_context_length
    from nad_agents.models.location import ModelSource

__all__ = [
    "DEFAULT_MODEL",
    "CacheEntry",
    "LoadedModel",
    "ModelSource",
    "cache_dir",
    "describe_cache",
    "load_model",
    "read_context_length",
    "resolve_device",
    "resolve_dtype",
]

# these need torch, without which a model's context length is known too
__getattr__, __dir__ = lazy_imports(
    __name__,
    {
        "DEFAULT_MODEL": "nad_agents.models.embedded",
        "CacheEntry": "nad_agents.models.cache",
        "LoadedModel": "nad_agents.models.loading",
        "ModelSource": "nad_agents.models.location",
        "cache_dir": "nad_agents.models.cache",
        "describe_cache": "nad_agents.models.cache",
        "load_model": "nad_agents.models.loading",
        "read_context_length": "nad_agents.models.loading",
        "resolve_device": "nad_agents.models.device",
        "resolve_dtype": "nad_agents.models.device",
    },
)
