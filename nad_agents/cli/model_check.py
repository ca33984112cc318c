"""Check for `nad doctor --model` how a model's weights are stored, and whether its neurons can be recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console

from nad_agents.cli.cache_check import check_cache
from nad_agents.cli.display import loading
from nad_agents.cli.findings import Finding
from nad_agents.exceptions import NADError, UnsupportedModelError

if TYPE_CHECKING:
    from nad_agents.models import LoadedModel

__all__ = ["describe_model"]

_UNRECORDED = "it generates with record=False and a selector without neurons, such as mean_logprob"


def describe_model(console: Console, model: str, adapter: str | None) -> Iterator[Finding]:
    """Load a model and return the findings about it.

    Args:
        console: Console that shows progress.
        model: A hub id, a local folder or a GGUF file.
        adapter: A LoRA adapter of the model; None for none.
    """
    try:
        with loading(console, model):
            from nad_agents.models import load_model

            loaded = load_model(model, adapter=adapter)
    except NADError as error:
        yield Finding("model", "broken", f"{model} cannot be used", str(error))
        return
    size = sum(tensor.nbytes for tensor in (*loaded.model.parameters(), *loaded.model.buffers()))
    yield Finding(
        "model",
        "ok",
        f"{loaded.name} ({type(loaded.model).__name__}) from a {loaded.source} source, {size / 2**30:.1f} GiB on "
        f"{loaded.device}, context {loaded.context_length or 'unknown'}",
    )
    yield Finding("weights", "ok", _weights(loaded))
    yield from _neurons(loaded)
    yield from check_cache(loaded.model)


def _weights(loaded: LoadedModel) -> str:
    """Return the types of the linear layers' weights as text, the most frequent one first."""
    from nad_agents.models.dense_weight import weight_format

    formats = Counter(
        weight_format(module)
        for name, module in loaded.model.named_modules()
        # layers inside an adapted layer are parts of it
        if _is_linear(module) and "lora_" not in name and not name.endswith("base_layer")
    )
    counted = ", ".join(f"{count} linear layers {name}" for name, count in formats.most_common())
    quantized = "" if loaded.quantization is None else f"quantized ({loaded.quantization}); "
    adapter = "" if loaded.adapter is None else f"; adapter {loaded.adapter}"
    return f"{quantized}{counted}{adapter}"


def _is_linear(module: Any) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(getattr(module, "in_features", None), int) or isinstance(module, Conv1D)


def _neurons(loaded: LoadedModel) -> Iterator[Finding]:
    """Find the neurons, and check them in one forward pass over a few tokens."""
    from nad_agents.neurons.architectures import (
        decoder_layers,
        find_feed_forwards,
        find_unembedding,
        verify_feed_forwards,
    )

    try:
        blocks = verify_feed_forwards(loaded.model, find_feed_forwards(loaded.model))
    except UnsupportedModelError as error:
        yield Finding("neurons", "missing", f"they cannot be recorded; {_UNRECORDED}", str(error))
        return
    n_layers = len(decoder_layers(loaded.model)[1])
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(block.kind for block in blocks).items())
    detail = f"{sum(block.d_ff for block in blocks):,} in {len(blocks)} of {n_layers} layers ({kinds})"
    if len(blocks) < n_layers:
        detail += f"; the {n_layers - len(blocks)} layers without a feed-forward block have no numbers"
    yield Finding("neurons", "ok", detail)
    try:
        for block in blocks:
            block.check_attribution()
        find_unembedding(loaded.model)
    except UnsupportedModelError as error:
        yield Finding("attribution", "missing", "the score is not available", str(error))
    else:
        yield Finding("attribution", "ok", "the score is available")
