"""The folder where converted models are kept, and how a folder gets into it: whole or not at all.

A folder is built under a hidden temporary name beside its final one, flushed to disk, and renamed. One process builds
at a time (a file lock, which the system releases when its holder dies); others wait and then find the result. Whatever
hidden folder can be locked by somebody else belongs to a dead process, and is removed.
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

__all__ = ["CacheEntry", "cache_dir", "cached_folder", "describe_cache", "find_cached"]

_MANIFEST = "nad_agents.json"
_MODELS = "models"


@dataclass(frozen=True)
class CacheEntry:
    """One converted model in the cache.

    Attributes:
        key: its folder's name.
        path: its folder, loadable by transformers.
        size_bytes: on disk.
        manifest: what it was made from and how; JSON-serialisable.
    """

    key: str
    path: Path
    size_bytes: int
    manifest: Mapping[str, Any]


def cache_dir() -> Path:
    """Where nad_agents keeps what it made: ``$NAD_CACHE_DIR``, else the user's cache folder. May not exist yet."""
    chosen = os.environ.get("NAD_CACHE_DIR", "").strip()
    return Path(chosen).expanduser() if chosen else Path(user_cache_dir("nad-agents", appauthor=False))


def describe_cache() -> tuple[CacheEntry, ...]:
    """The converted models in the cache, by name."""
    entries = []
    for manifest in sorted((cache_dir() / _MODELS).glob(f"[!.]*/{_MANIFEST}")):
        folder = manifest.parent
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        with suppress(OSError, ValueError):
            entries.append(CacheEntry(folder.name, folder, size, json.loads(manifest.read_text(encoding="utf-8"))))
    return tuple(entries)


def find_cached(key: str) -> Path | None:
    """The finished folder of that key, or None."""
    folder = cache_dir() / _MODELS / key
    return folder if (folder / _MANIFEST).is_file() else None


def cached_folder(
    key: str,
    build: Callable[[Path], Mapping[str, Any]],
    *,
    on_wait: Callable[[], None] | None = None,
) -> Path:
    """The folder of that key, built first if it is absent.

    Args:
        key: names content and version; the same key always means the same files.
        build: fills the empty folder it is given and returns the manifest to keep with it.
        on_wait: called once when another process is building this folder and this one has to wait.

    Raises:
        ModelLoadError: the cache cannot be written.
        Exception: whatever `build` raises; nothing stays behind.
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
        # somebody may have finished while this process waited
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
    """Build, flush and rename; the caller holds the lock of `key`."""
    _remove_leftovers(root, key)
    final = root / key
    temporary = Path(tempfile.mkdtemp(prefix=f".{key}.", suffix=".tmp", dir=root))
    try:
        manifest = build(temporary)
        (temporary / _MANIFEST).write_text(json.dumps(dict(manifest), indent=2), encoding="utf-8")
        temporary.chmod(0o755)
        _flush(temporary)
        if final.exists():  # without a manifest, else it would have been found
            shutil.rmtree(final)
        temporary.rename(final)
        _flush_folder(root)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return final


def _remove_leftovers(root: Path, held: str) -> None:
    """Remove the half-built folders of dead processes: those of the held key, and those whose lock is free."""
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
    """Force a folder's files to disk, so that the rename cannot outlive its content."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb+") as handle:
                os.fsync(handle.fileno())
        elif file.is_dir():
            _flush_folder(file)
    _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
