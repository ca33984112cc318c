"""How much memory is left on a device and on the host, limits of control groups (containers) included."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import torch

__all__ = ["available_device_memory", "available_host_memory", "return_free_memory"]

_PROC = Path("/proc")

_CGROUPS = Path("/sys/fs/cgroup")

_V2_FILES = ("memory.max", "memory.current", "inactive_file")

_V1_FILES = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def available_host_memory(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int | None:
    """Return the bytes that can be allocated without swapping or exceeding a control group's limit.

    Args:
        proc: Mount point of the proc file system.
        cgroups: Mount point of control groups, version 2 or 1.

    Returns:
        Bytes, or None where the system does not say.
    """
    return min([*_left_on_machine(proc), *_left_in_cgroups(proc, cgroups)], default=None)


def available_device_memory(device: torch.device) -> int | None:
    """Return the bytes that can be allocated on a device; for the CPU and Metal these are the host's.

    Returns:
        Bytes, or None where the device does not say.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # memory that torch has reserved but does not use is available for the next tensor
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    return available_host_memory() if device.type in {"cpu", "mps"} else None


def return_free_memory() -> None:
    """Return the unused parts of the C library's heap to the system, where the library can do that (glibc)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _left_on_machine(proc: Path) -> Iterator[int]:
    try:
        lines = (proc / "meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        if "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", {}):
            yield os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return
    yield from (int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def _left_in_cgroups(proc: Path, cgroups: Path) -> Iterator[int]:
    """Yield the bytes left in the process's control group and in every group above it, as each has its own limit."""
    try:
        entries = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for entry in entries:
        number, controllers, path = entry.split(":", 2)
        if number == "0":
            root, names = cgroups, _V2_FILES
        elif "memory" in controllers.split(","):
            root, names = cgroups / "memory", _V1_FILES
        else:
            continue
        folder = root / path.lstrip("/")
        for place in (folder, *folder.parents):
            # in a container the path may be the host's, and only the root of the mount exists
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
