"""Keep one decoder per model, adapter, device, dtype and engine in a process; its users share weights and batches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nad_agents.fork import ForkSafeLock
from nad_agents.types import EngineName

if TYPE_CHECKING:
    from nad_agents.decoder import NeuronAgreementDecoder

__all__ = ["shared_decoder", "unload_models"]


@dataclass(eq=False)
class _Slot:
    """Holds a decoder, or None until it is loaded under the lock."""

    lock: ForkSafeLock = field(default_factory=ForkSafeLock)
    decoder: NeuronAgreementDecoder | None = None


_SLOTS: dict[tuple[str | None, ...], _Slot] = {}
"""Slots by model, adapter, device, dtype, engine and the engine's options."""

_SLOTS_LOCK = ForkSafeLock()


def shared_decoder(
    model: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    adapter: str | None = None,
    engine: EngineName = "hf",
    engine_options: Mapping[str, Any] | None = None,
) -> NeuronAgreementDecoder:
    """Return the process's decoder for a model; the first call loads it, once, however many threads ask.

    Args:
        model: A Hugging Face Hub id, a local folder, or a GGUF file.
        device: "auto" or a torch device.
        dtype: "auto" or the name of a torch dtype.
        adapter: Folder or hub id of a LoRA adapter; None for none.
        engine: Name of the engine that runs the model.
        engine_options: Further options of the engine.

    Raises:
        ModelLoadError: The model cannot be loaded; the next call tries again.
        ConfigurationError: The device or dtype does not exist, or the engine does not accept an option.
        MissingDependencyError: The engine's package is not installed.
    """
    # torch and transformers take seconds to import, so not before a model is needed
    from nad_agents.decoder import NeuronAgreementDecoder
    from nad_agents.models import resolve_device, resolve_dtype

    options = dict(engine_options or {})
    if engine == "hf":
        # "auto" and the device or dtype that it stands for share a decoder; other engines resolve "auto" themselves
        torch_device = resolve_device(device)
        device, dtype = str(torch_device), str(resolve_dtype(dtype, torch_device)).removeprefix("torch.")
    key = (model, adapter, device, dtype, engine, json.dumps(options, sort_keys=True, default=repr))
    with _SLOTS_LOCK:
        slot = _SLOTS.setdefault(key, _Slot())
    with slot.lock:
        if slot.decoder is None:
            slot.decoder = NeuronAgreementDecoder(
                model, adapter=adapter, device=device, dtype=dtype, engine=engine, engine_options=options
            )
        return slot.decoder


def unload_models() -> int:
    """Forget every shared decoder, so that its memory is freed once no model uses it; return how many there were.

    A model that has answered before keeps its decoder until the model itself is garbage.
    """
    with _SLOTS_LOCK:
        loaded = sum(slot.decoder is not None for slot in _SLOTS.values())
        _SLOTS.clear()
    return loaded
