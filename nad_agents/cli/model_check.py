"""What `nad doctor --model` says about a model: which neurons can be recorded, and with which scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.console import Console

from nad_agents.cli.display import loading
from nad_agents.cli.findings import Finding
from nad_agents.exceptions import NADError, UnsupportedModelError

__all__ = ["check_model"]

_UNRECORDED = "it generates with record=False and a selector without neurons, such as mean_logprob"


def check_model(console: Console, model: str) -> Iterator[Finding]:
    """Load a model, find its neurons, and check them in one forward pass over a few tokens.

    Args:
        console: Where progress is shown.
        model: A hub id, a local folder or a GGUF file.
    """
    try:
        with loading(console, model):
            from nad_agents.models import load_model
            from nad_agents.neurons.architectures import (
                decoder_layers,
                find_feed_forwards,
                find_unembedding,
                verify_feed_forwards,
            )

            loaded = load_model(model)
    except NADError as error:
        yield Finding("model", "broken", f"{model} cannot be used", str(error))
        return
    yield Finding("model", "ok", f"{loaded.name} ({type(loaded.model).__name__})")
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
