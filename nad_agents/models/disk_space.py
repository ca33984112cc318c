"""Check that a model's files will fit on the disk before they are fetched or converted."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from nad_agents.exceptions import ModelLoadError

__all__ = ["check_disk_space"]

_SPARE = 16 * 2**20
"""Bytes for the small files beside the weights, such as the tokenizer."""


_CACHE_ADVICE = "set NAD_CACHE_DIR (converted models) and TMPDIR (temporary files) to folders on another disk"


def check_disk_space(needed: Mapping[Path, int], *, purpose: str, advice: str = _CACHE_ADVICE) -> None:
    """Refuse to write files for which a disk has no room.

    Args:
        needed: Bytes that will be written under each folder; folders on the same disk count together. A folder need
            not exist yet.
        purpose: Purpose of the files, such as "converting x.gguf".
        advice: Advice for a user who cannot free room.

    Raises:
        ModelLoadError: A disk has too little room. The message says how much room is needed in which folder.
    """
    disks: dict[int, list[tuple[Path, int]]] = {}
    for folder, size in needed.items():
        there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
        disks.setdefault(there.stat().st_dev, []).append((there, size))
    for parts in disks.values():
        wanted = sum(size for _, size in parts) + _SPARE
        free = shutil.disk_usage(parts[0][0]).free
        if free < wanted:
            where = " and ".join(str(folder) for folder, _ in parts)
            msg = (
                f"{purpose} needs about {wanted / 1e6:,.0f} MB in {where}, and {free / 1e6:,.0f} MB are free; free "
                f"some, or {advice}"
            )
            raise ModelLoadError(msg)
