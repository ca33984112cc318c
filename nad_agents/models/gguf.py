"""A GGUF file as a folder that loads in a second: converted to safetensors once, kept in the cache by content."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

from nad_agents.exceptions import MissingDependencyError, ModelLoadError
from nad_agents.models.cache import cached_folder, find_cached
from nad_agents.models.conversion import CONVERSION_VERSION, convert
from nad_agents.models.gguf_header import GGUFMetadata, check_magic, read_metadata
from nad_agents.models.logging import Progress, announce, logger

__all__ = ["cache_key", "converted_gguf"]


def cache_key(sha256: str) -> str:
    """The cache folder's name for a GGUF file of that content."""
    return f"gguf-v{CONVERSION_VERSION}-{sha256[:40]}"


def converted_gguf(path: Path, *, sha256: str | None = None, name: str = "", progress: Progress | None = None) -> Path:
    """The safetensors folder of a GGUF file, converted first if it is not in the cache.

    Args:
        path: the GGUF file.
        sha256: its SHA-256, if the caller has checked it; otherwise the file is hashed, about a second per 500 MB.
        name: what to call it in messages; the file's name by default.
        progress: receives one line before a step that takes long.

    Raises:
        ModelLoadError: the file is no GGUF, is truncated or cannot be converted.
        UnsupportedModelError: its architecture is not one that transformers reads, or not a decoder.
        MissingDependencyError: the package that reads GGUF is absent.
    """
    check_magic(path)
    name = name or path.name
    if sha256 is None:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    key = cache_key(sha256)
    found = find_cached(key)
    if found is not None:
        return found
    _check_packages(name)
    metadata = read_metadata(path)
    _check_metadata(metadata, path)

    def build(folder: Path) -> dict[str, Any]:
        announce(f"converting {name} to safetensors, once (one to two minutes for 500 MB)", progress)
        return convert(path, metadata, folder) | {"name": name, "sha256": sha256, "size": path.stat().st_size}

    return cached_folder(
        key, build, on_wait=lambda: announce(f"waiting for another process that is converting {name}", progress)
    )


def _check_packages(name: str) -> None:
    # transformers insists on accelerate for GGUF, though it is not used on one device
    missing = [package for package in ("gguf", "accelerate") if importlib.util.find_spec(package) is None]
    if missing:
        msg = f'reading {name} needs the package {missing[0]}; run: pip install "nad-agents[gguf]"'
        raise MissingDependencyError(msg)


def _check_metadata(metadata: GGUFMetadata, path: Path) -> None:
    if metadata.n_splits > 1:
        msg = f"{path} is one of {metadata.n_splits} parts; join them with llama.cpp's llama-gguf-split --merge"
        raise ModelLoadError(msg)
    if metadata.long_context_factors and metadata.architecture != "gpt-oss":
        logger.warning(
            "%s rescales its rotary positions, which is lost in conversion: expect worse answers on long prompts; "
            "the original safetensors folder keeps it",
            path.name,
        )
