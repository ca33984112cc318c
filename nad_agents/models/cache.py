"""The cache of converted models; a folder gets into it completely or not at all.

A folder is built under a hidden temporary name next to its final one, flushed to disk, and renamed. A file lock lets
one process at a time build a folder, and the operating system releases the lock when its holder dies; other processes
wait and then find the result. A hidden folder whose lock is free was left by a process that died, and is removed.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from platformdirs import user_cache_dir

from nad_agents.exceptions import ModelLoadError
from nad_agents.models.error_text import one_line_error

__all__ = ["CacheEntry", "cache_dir", "cached_folder", "describe_cache", "find_cached"]

_MANIFEST = "nad_agents.json"
_MODELS = "models"


@dataclass(frozen=True)
class CacheEntry:
    """One converted model in the cache.

    Attributes:
        key: Name of the model's folder in the cache.
        path: The folder itself, which transformers can load.
        size_bytes: Size of the folder's files on disk.
        manifest: What the model was converted from and how; JSON-serializable.
    """

    key: str
    path: Path
    size_bytes: int
    manifest: Mapping[str, Any]


def cache_dir() -> Path:
    """Return the folder where nad_agents keeps converted models, which may not exist yet.

    It is ``$NAD_CACHE_DIR`` if that is set, else a folder in the user's cache directory.
    """
    chosen = os.environ.get("NAD_CACHE_DIR", "").strip()
    return Path(chosen).expanduser() if chosen else Path(user_cache_dir("nad-agents", appauthor=False))


def describe_cache() -> tuple[CacheEntry, ...]:
    """List the converted models in the cache, sorted by name."""
    entries = []
    for manifest in sorted((cache_dir() / _MODELS).glob(f"[!.]*/{_MANIFEST}")):
        folder = manifest.parent
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        with suppress(OSError, ValueError):
            entries.append(CacheEntry(folder.name, folder, size, json.loads(manifest.read_text(encoding="utf-8"))))
    return tuple(entries)


def find_cached(key: str) -> Path | None:
    """Return the finished folder with a key, or None if the cache has none."""
    folder = cache_dir() / _MODELS / key
    return folder if (folder / _MANIFEST).is_file() else None


def cached_folder(
    key: str,
    build: Callable[[Path], Mapping[str, Any]],
    *,
    on_wait: Callable[[], None] | None = None,
) -> Path:
    """Return the folder with a key, building it first if the cache does not have it.

    Args:
        key: Name that identifies content and version; the same key always stands for the same files.
        build: Fills the empty folder that it is given, and returns the manifest to keep with it.
        on_wait: Called once if another process is building the folder, before this one starts to wait.

    Raises:
        ModelLoadError: The cache folder is not writable, or the disk is full.
        Exception: Anything that `build` raises; the half-built folder is removed.
    """
    found = find_cached(key)
    if found is not None:
        return found
    root = cache_dir() / _MODELS
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = _locked(root, key, on_wait)
    except OSError as error:
        msg = (
            f"the cache folder {root} cannot be written ({error.strerror or error}); set NAD_CACHE_DIR to one that can"
        )
        raise ModelLoadError(msg) from error
    try:
        # another process may have finished the folder while this one waited
        return find_cached(key) or _build(root, key, build)
    finally:
        lock.release()


def _locked(root: Path, key: str, on_wait: Callable[[], None] | None) -> FileLock:
    lock = FileLock(_lock_file(root, key))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if on_wait is not None:
            on_wait()
        lock.acquire()
    return lock


def _build(root: Path, key: str, build: Callable[[Path], Mapping[str, Any]]) -> Path:
    """Build the folder, flush it and rename it; the caller holds the lock of `key`."""
    _remove_leftovers(root, key)
    final = root / key
    temporary = Path(tempfile.mkdtemp(prefix=f".{key}.", suffix=".tmp", dir=root))
    try:
        manifest = build(temporary)
        (temporary / _MANIFEST).write_text(json.dumps(dict(manifest), indent=2), encoding="utf-8")
        temporary.chmod(0o755)
        _flush(temporary)
        if final.exists():  # it has no manifest, or find_cached would have returned it
            shutil.rmtree(final)
        temporary.rename(final)
        _flush_folder(root)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            msg = f"the cache folder {root} could not be written: {one_line_error(error)}"
            raise ModelLoadError(msg) from error
        raise
    return final


def _remove_leftovers(root: Path, held: str) -> None:
    """Remove half-built folders that dead processes left: those of the held key, and those whose lock is free."""
    for folder in root.glob(".*.tmp"):
        key = folder.name[1:].rsplit(".", 2)[0]
        if key == held:
            shutil.rmtree(folder, ignore_errors=True)
            continue
        with suppress(Timeout, OSError), FileLock(_lock_file(root, key), timeout=0):
            shutil.rmtree(folder, ignore_errors=True)


def _lock_file(root: Path, key: str) -> str:
    return str(root / f".{key}.lock")


def _flush(folder: Path) -> None:
    """Force a folder's files to disk, so that the rename cannot reach the disk before the content does."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb+") as handle:
                os.fsync(handle.fileno())
        elif file.is_dir():
            _flush_folder(file)
    _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder as a file
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
