"""One decoder per model and process, so that models which agree on weights, device and dtype share memory and batches.

Sharing the decoder, not the weights alone, is what keeps recording right: hooks sit on the model's modules, and one
scheduler thread per model sees to it that no two forward passes interleave.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nad_agents.decoder import NeuronAgreementDecoder

__all__ = ["shared_decoder", "unload_models"]

Key = tuple[str, str, str]


@dataclass(eq=False)
class _Slot:
    """A model that is loaded, or being loaded under the lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    decoder: NeuronAgreementDecoder | None = None


_SLOTS: dict[Key, _Slot] = {}
_SLOTS_LOCK = threading.Lock()


def shared_decoder(model: str, device: str, dtype: str) -> NeuronAgreementDecoder:
    """The process's decoder for a model; loads it at the first call, once, however many threads ask.

    Args:
        model: a hub id, a folder, a GGUF file.
        device: "auto" or a torch device.
        dtype: "auto" or the name of a torch dtype.

    Raises:
        ModelLoadError: the model cannot be loaded; the next call tries again.
        ConfigurationError: no such device or dtype.
    """
    # torch and transformers take seconds to import, so not before a model is needed
    from nad_agents.decoder import NeuronAgreementDecoder
    from nad_agents.models import resolve_device, resolve_dtype

    where = resolve_device(device)
    kind = resolve_dtype(dtype, where)
    with _SLOTS_LOCK:
        slot = _SLOTS.setdefault((model, str(where), str(kind)), _Slot())
    with slot.lock:
        if slot.decoder is None:
            slot.decoder = NeuronAgreementDecoder(model, device=str(where), dtype=kind)
        return slot.decoder


def unload_models() -> int:
    """Forget every shared model, so that its memory is freed once no chat model holds it; returns how many there were.

    Chat models that answered before keep theirs until they are garbage themselves.
    """
    with _SLOTS_LOCK:
        loaded = sum(slot.decoder is not None for slot in _SLOTS.values())
        _SLOTS.clear()
    return loaded
