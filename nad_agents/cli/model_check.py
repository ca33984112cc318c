"""The findings of `nad doctor --model`: how a model's weights are stored, and what can be recorded of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console

from nad_agents.cli.display import loading
from nad_agents.cli.findings import Finding
from nad_agents.exceptions import NADError

if TYPE_CHECKING:
    from nad_agents.models import LoadedModel

__all__ = ["describe_model"]


def describe_model(console: Console, model: str, adapter: str | None) -> Iterator[Finding]:
    """Load a model and say what was found.

    Args:
        console: Where progress is shown.
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


def _weights(loaded: LoadedModel) -> str:
    """Name the types of the linear layers' weights, the most frequent one first."""
    from nad_agents.models.dense_weight import weight_format

    formats = Counter(
        weight_format(module)
        for name, module in loaded.model.named_modules()
        # layers inside of an adapted one are part of it
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
    from nad_agents.neurons.architectures import find_feed_forwards, find_unembedding

    try:
        blocks = find_feed_forwards(loaded.model)
    except NADError as error:
        yield Finding("neurons", "missing", "none can be recorded", str(error))
        return
    kinds = ", ".join(sorted({block.kind for block in blocks}))
    widths = sorted({block.d_ff for block in blocks})
    width = f"{widths[0]:,}" if len(widths) == 1 else f"{widths[0]:,} to {widths[-1]:,}"
    yield Finding("neurons", "ok", f"{len(blocks)} layers of {width} ({kinds}); score activation works")
    try:
        find_unembedding(loaded.model)
        blocks[0].down_weight()
    except NADError as error:
        yield Finding("attribution", "missing", "this score does not work", str(error))
    else:
        yield Finding("attribution", "ok", "this score works")
