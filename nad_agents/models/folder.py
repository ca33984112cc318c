"""Local paths: tell a path from a hub id, and check that a folder holds a complete model."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from nad_agents.exceptions import ModelLoadError

__all__ = ["check_folder", "looks_like_path"]


def looks_like_path(model: str) -> bool:
    """Return whether a name can only mean a file or folder, so that an absent one is not looked up on the hub."""
    separators = model.count("/") + (model.count(os.sep) if os.sep != "/" else 0)
    starts = model.startswith((".", "/", "~")) or re.match(r"[A-Za-z]:[\\/]", model) is not None
    return starts or separators > 1 or model.lower().endswith(".gguf")


def check_folder(folder: Path) -> None:
    """Check that a folder holds a config and all of its weight files.

    Raises:
        ModelLoadError: Something is missing; the message says what.
    """
    if not (folder / "config.json").is_file():
        ggufs = sorted(folder.glob("*.gguf"))
        if ggufs:
            hint = f"it holds GGUF files: give the path of one, such as {ggufs[0]}"
        elif (folder / "adapter_config.json").is_file():
            hint = "it is an adapter: give its base model as the model, and this folder as adapter="
        else:
            hint = "give a folder made by save_pretrained"
        msg = f"the folder {folder} has no config.json; {hint}"
        raise ModelLoadError(msg)
    for index in (folder / "model.safetensors.index.json", folder / "pytorch_model.bin.index.json"):
        if index.is_file():
            _check_shards(index)
            return
    if not any((folder / name).is_file() for name in ("model.safetensors", "pytorch_model.bin")):
        msg = f"the folder {folder} has a config.json but no weights (model.safetensors); download or save them too"
        raise ModelLoadError(msg)


def _check_shards(index: Path) -> None:
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        msg = f"{index} is not a readable weight index; download or save the model again"
        raise ModelLoadError(msg) from error
    missing = sorted(shard for shard in shards if not (index.parent / shard).is_file())
    if missing:
        msg = f"{index.parent} lacks {len(missing)} of {len(shards)} weight files, such as {missing[0]}; download them"
        raise ModelLoadError(msg)
