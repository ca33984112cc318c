"""Make temporary folders whose names contain their owner, so that those of killed processes can be removed."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from nad_sandbox.ownership.owner import Owner

__all__ = ["owned_folder", "reap_folders"]

_PREFIX = "nad-sandbox-"


@contextlib.contextmanager
def owned_folder() -> Iterator[Path]:
    """Make a folder that is removed at the end; the first call also removes folders that dead processes left."""
    _reap_once()
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{Owner.current()}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@cache
def _reap_once() -> None:
    reap_folders()


def reap_folders() -> list[str]:
    """Remove temporary folders whose owner is dead.

    Returns:
        A line for each removed folder.
    """
    removed = []
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = Owner.parse(folder.name.removeprefix(_PREFIX).rpartition("-")[0])
        if owner is None or folder.is_symlink() or not (owner.is_gone() or owner.is_of_earlier_boot()):
            continue
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            removed.append(f"folder {folder.name[-8:]} of process {owner.pid}")
    return removed
