"""Load models: by hub id, from a local folder or a GGUF file, or the small default model.

GGUF files are converted once to safetensors; the converted models are kept in a cache.
"""

from __future__ import annotations

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
