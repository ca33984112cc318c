"""How much memory a request may still take: of the machine, of the control group the process is in, of a GPU."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["available_device_memory", "available_host_memory", "return_free_memory"]

_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")

_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def available_host_memory(proc: Path = _PROC, groups: Path = _GROUPS) -> int | None:
    """Bytes that can be taken without swapping and without meeting a control group's limit; None where unknown.

    Args:
        proc: where the process file system is.
        groups: where control groups are, version 2 or 1.
    """
    return min([*_of_machine(proc), *_of_groups(proc, groups)], default=None)


def available_device_memory(device: torch.device) -> int | None:
    """Bytes that can be taken on a device; None where unknown. The CPU's and Metal's are the host's."""
    if device.type == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        # what torch holds without using it is free to the next tensor
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    return available_host_memory() if device.type in {"cpu", "mps"} else None


def return_free_memory() -> None:
    """Hand the unused parts of the C library's heap back to the system, where it can do that (glibc)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _of_machine(proc: Path) -> Iterator[int]:
    try:
        lines = (proc / "meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        if "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", {}):
            yield os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return
    yield from (int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def _of_groups(proc: Path, groups: Path) -> Iterator[int]:
    """What is left in the process's group and in every group above it, as each has its own limit."""
    try:
        entries = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for entry in entries:
        number, controllers, path = entry.split(":", 2)
        if number == "0":
            root, names = groups, _V2
        elif "memory" in controllers.split(","):
            root, names = groups / "memory", _V1
        else:
            continue
        folder = root / path.lstrip("/")
        for place in (folder, *folder.parents):
            # in a container the path may be the host's, and only the mount's root is there
            left = _left_in(place, *names)
            if left is not None:
                yield left
            if place == root:
                break


def _left_in(folder: Path, limit_name: str, usage_name: str, reclaimable_name: str) -> int | None:
    try:
        limit = (folder / limit_name).read_text(encoding="ascii").strip()
        if limit == "max":
            return None
        usage = int((folder / usage_name).read_text(encoding="ascii"))
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return None
    return max(0, int(limit) - usage + int(statistics.get(reclaimable_name, 0)))
