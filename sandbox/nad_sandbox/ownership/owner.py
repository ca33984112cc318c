"""Identify the process that started a sandbox, to tell leftovers of killed processes from sandboxes in use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

__all__ = ["Owner"]


@cache
def _machine() -> tuple[str, str]:
    """Return the running kernel's boot id and this process's pid namespace, within which process ids are unique."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return "", ""
    return boot, namespace.removeprefix("pid:[").removesuffix("]")


def _start_ticks(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot; None when it has ended or is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the process's name may contain spaces and parentheses
    return None if fields[0] in {"Z", "X"} else fields[19]


@dataclass(frozen=True)
class Owner:
    """A process, identified so that a later process with the same id differs from it.

    Attributes:
        pid: Process id.
        start: Clock ticks from boot to its start.
        boot_id: The kernel's boot id.
        namespace: Inode of the pid namespace in which `pid` is valid.
    """

    pid: int
    start: str
    boot_id: str
    namespace: str

    @classmethod
    def current(cls) -> Self:
        """Return this process as an owner."""
        pid = os.getpid()
        boot_id, namespace = _machine()
        return cls(pid, _start_ticks(pid) or "0", boot_id, namespace)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse the text that `str` writes for an owner; return None for any other text."""
        parts = text.split("_")
        if len(parts) != 4 or not parts[0].isdecimal():
            return None
        return cls(int(parts[0]), parts[1], parts[2], parts[3])

    def __str__(self) -> str:
        return f"{self.pid}_{self.start}_{self.boot_id}_{self.namespace}"

    def is_gone(self) -> bool:
        """Return whether the process is known to be dead; False when that cannot be known from this process."""
        boot_id, namespace = _machine()
        if not boot_id or (self.boot_id, self.namespace) != (boot_id, namespace):
            return False
        return _start_ticks(self.pid) != self.start

    def is_of_earlier_boot(self) -> bool:
        """Return whether the process ran under another boot id: before a reboot, or on another machine."""
        return bool(_machine()[0]) and self.boot_id != _machine()[0]
