"""One decoder per model, adapter, device and dtype in a process, so that its users share weights and batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nad_agents.fork import ForkSafeLock

if TYPE_CHECKING:
    from nad_agents.decoder import NeuronAgreementDecoder

__all__ = ["shared_decoder", "unload_models"]


@dataclass(eq=False)
class _Slot:
    """Holds a decoder, or None until it is loaded under the lock."""

    lock: ForkSafeLock = field(default_factory=ForkSafeLock)
    decoder: NeuronAgreementDecoder | None = None


_SLOTS: dict[tuple[str, str | None, str, str], _Slot] = {}
"""Slots by model, adapter, device and dtype."""

_SLOTS_LOCK = ForkSafeLock()


def shared_decoder(model: str, device: str, dtype: str, adapter: str | None = None) -> NeuronAgreementDecoder:
    """Return the process's decoder for a model; the first call loads it, once, however many threads ask.

    Args:
        model: A Hugging Face Hub id, a local folder, or a GGUF file.
        device: "auto" or a torch device.
        dtype: "auto" or the name of a torch dtype.
        adapter: Folder or hub id of a LoRA adapter; None for none.

    Raises:
        ModelLoadError: The model cannot be loaded; the next call tries again.
        ConfigurationError: There is no such device or dtype.
    """
    # torch and transformers take seconds to import, so not before a model is needed
    from nad_agents.decoder import NeuronAgreementDecoder
    from nad_agents.models import resolve_device, resolve_dtype

    torch_device = resolve_device(device)
    torch_dtype = resolve_dtype(dtype, torch_device)
    with _SLOTS_LOCK:
        slot = _SLOTS.setdefault((model, adapter, str(torch_device), str(torch_dtype)), _Slot())
    with slot.lock:
        if slot.decoder is None:
            slot.decoder = NeuronAgreementDecoder(model, adapter=adapter, device=str(torch_device), dtype=dtype)
        return slot.decoder


def unload_models() -> int:
    """Forget every shared decoder, so that its memory is freed once no model uses it; return how many there were.

    A model that has answered before keeps its decoder until the model itself is garbage.
    """
    with _SLOTS_LOCK:
        loaded = sum(slot.decoder is not None for slot in _SLOTS.values())
        _SLOTS.clear()
    return loaded
