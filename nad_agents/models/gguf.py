"""GGUF files: each is converted to safetensors once and kept in the cache, where it loads in a second."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

from nad_agents.exceptions import MissingDependencyError, ModelLoadError
from nad_agents.models.cache import cache_dir, cached_folder, find_cached
from nad_agents.models.disk_space import check_disk_space
from nad_agents.models.gguf_header import CONVERSION_VERSION, GGUFMetadata, check_magic, read_header
from nad_agents.models.logging import ProgressCallback, announce

__all__ = ["cache_key", "converted_gguf"]


def cache_key(sha256: str) -> str:
    """Return the name of the cache folder for a GGUF file with a SHA-256."""
    return f"gguf-v{CONVERSION_VERSION}-{sha256[:40]}"


def converted_gguf(
    path: Path, *, sha256: str | None = None, name: str = "", progress: ProgressCallback | None = None
) -> Path:
    """Return the safetensors folder of a GGUF file, converting the file first if the cache does not have it.

    Args:
        path: The GGUF file.
        sha256: SHA-256 of the file if the caller has checked it; otherwise it is computed, in about a second per 500
            MB.
        name: Name for messages; the file's name if empty.
        progress: Receives one line before each slow step.

    Raises:
        ModelLoadError: The file is not GGUF, is truncated, or cannot be converted; or the disk is too full.
        UnsupportedModelError: transformers cannot read its architecture, or it is not decoder-only.
        MissingDependencyError: The package that reads GGUF files is not installed.
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
    reader, metadata = read_header(path)
    _check_metadata(metadata, path)

    def build(folder: Path) -> dict[str, Any]:
        # torch takes seconds to import, and a model's context length is known without it
        from nad_agents.models.gguf_conversion import convert, converted_size

        check_disk_space({cache_dir(): converted_size(metadata)}, purpose=f"converting {name}")
        announce(f"converting {name} to safetensors, once (about 20 seconds for 500 MB)", progress)
        return convert(path, reader, metadata, folder) | {"name": name, "sha256": sha256, "size": path.stat().st_size}

    return cached_folder(
        key, build, on_wait=lambda: announce(f"waiting for another process that is converting {name}", progress)
    )


def _check_packages(name: str) -> None:
    # transformers requires accelerate for GGUF even where it does not use it
    missing = [package for package in ("gguf", "accelerate") if importlib.util.find_spec(package) is None]
    if missing:
        msg = f'reading {name} needs the package {missing[0]}; run: pip install "nad-agents[gguf]"'
        raise MissingDependencyError(msg)


def _check_metadata(metadata: GGUFMetadata, path: Path) -> None:
    if metadata.n_splits > 1:
        msg = f"{path} is one of {metadata.n_splits} parts; join them with llama.cpp's llama-gguf-split --merge"
        raise ModelLoadError(msg)
