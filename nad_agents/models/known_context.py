"""Read a model's context length from files on this machine, in milliseconds and without the weights."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from nad_agents.models.embedded import DEFAULT_MODEL, find_embedded_model

__all__ = ["known_context_length"]

_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len")

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Format characters of `struct` by GGUF's number of a type."""

_STRING, _ARRAY = 8, 9


def known_context_length(model: str | Path) -> int | None:
    """Return how many prompt and answer tokens a model takes together, as far as this machine knows.

    Neither the network nor the weights are used, and nothing is converted.

    Args:
        model: A hub id, a local folder, or a GGUF file.

    Returns:
        The number of tokens; None where the model is not on this machine, or does not say.
    """
    path = Path(model)
    try:
        if path.is_file():
            with path.open("rb") as file:
                return _gguf_context_length(file)
        if path.is_dir():
            return _config_context_length(path / "config.json")
        cached = try_to_load_from_cache(str(model), "config.json")
        if isinstance(cached, str):
            return _config_context_length(Path(cached))
        embedded = find_embedded_model() if str(model) == DEFAULT_MODEL else None
        return None if embedded is None else _config_context_length(embedded / "config.json")
    except (OSError, ValueError, KeyError, HFValidationError, struct.error):
        # loading the model will say what is wrong with it
        return None


def _config_context_length(path: Path) -> int | None:
    config = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(config, Mapping):
        return None
    text = config.get("text_config")
    for part in (text if isinstance(text, Mapping) else {}, config):
        for key in _KEYS:
            if isinstance(part.get(key), int) and part[key] > 0:
                return int(part[key])
    return None


def _gguf_context_length(file: BinaryIO) -> int | None:
    """Read a GGUF file's header up to the context length, which comes before the vocabulary."""
    if file.read(4) != b"GGUF":
        return None
    version, _, entries = struct.unpack("<IQQ", file.read(20))
    if version < 2:
        return None
    for _ in range(min(entries, 10_000)):
        key = _read_string(file)
        value = _read_value(file, struct.unpack("<I", file.read(4))[0])
        if key.endswith(".context_length") and isinstance(value, int) and value > 0:
            return value
    return None


def _read_string(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    return file.read(min(length, 1 << 24)).decode("utf-8", "replace")


def _read_value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _read_string(file)
    if kind == _ARRAY:
        inner, count = struct.unpack("<IQ", file.read(12))
        if inner in _SCALARS:
            file.seek(struct.calcsize("<" + _SCALARS[inner]) * count, 1)
            return None
        for _ in range(count):
            _read_value(file, inner)
        return None
    form = "<" + _SCALARS[kind]
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]
