"""Check for `nad doctor --model` whether a model's candidates share their prompt, and its requests a batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nad_agents.cli.findings import Finding

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["check_cache"]


def check_cache(model: PreTrainedModel) -> Iterator[Finding]:
    """Return findings about how a model caches prompts, from a forward pass over two tokens.

    Args:
        model: A decoder-only model that is not generating.
    """
    from transformers import DynamicCache

    from nad_agents.engine.hf.captured.support import capture_obstacle
    from nad_agents.engine.hf.kv_cache import unmergeable_layers
    from nad_agents.engine.hf.prefill import piece_size
    from nad_agents.engine.hf.prefix.support import reusable_prefixes, sharing_obstacle

    cache = DynamicCache(config=model.config)
    obstacle = sharing_obstacle(model)
    if obstacle:
        yield Finding("prompt", "ok", f"every candidate keeps a copy of it: {obstacle}")
    else:
        yield Finding("prompt", "ok", "kept once for all candidates of a request")
    kinds = unmergeable_layers(cache) if obstacle else []
    if kinds:
        yield Finding("batches", "ok", f"requests take turns: {', '.join(kinds)} cannot hold several prompts")
    else:
        yield Finding("batches", "ok", "several requests share a batch")
    pieces = piece_size(cache, model.config)
    how = f"in pieces of {pieces} tokens" if pieces else "whole, as its layers cannot go on from a part of it"
    yield Finding("prefill", "ok", f"{how}; {reusable_prefixes(model)}")
    if obstacle := capture_obstacle(model):
        yield Finding("steps", "ok", f"launched one operation at a time, on a GPU too: {obstacle}")
    else:
        yield Finding("steps", "ok", "captured in CUDA graphs on a GPU where that is exact and faster")
