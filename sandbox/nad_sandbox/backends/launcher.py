"""What every backend shares to start the program that confines itself."""

from __future__ import annotations

from functools import cache
from importlib import resources

from nad_sandbox.base import Limits

__all__ = ["BOOTSTRAP_FLAGS", "READY", "START_SECONDS", "bootstrap_source", "hit_memory_rlimit", "rlimits"]


BOOTSTRAP_FLAGS = ("-I", "-S", "-X", "utf8", "-c")
"""How an interpreter is started for the bootstrap program: isolated, without site packages, and for text in UTF-8."""

READY = b"\x06"
"""What the bootstrap program writes once it waits for its job."""

START_SECONDS = 20.0
"""How long a sandbox process may take until it is ready."""


@cache
def bootstrap_source() -> str:
    """The text of the bootstrap program, for ``python3 -c``."""
    return resources.files("nad_sandbox.isolation").joinpath("bootstrap.py").read_text(encoding="utf-8")


def rlimits(limits: Limits, *, memory: bool) -> dict[str, int]:
    """The resource limits that a program gets.

    Args:
        limits: what it may use.
        memory: bound its private memory too, for want of anything better (a cgroup bounds a whole sandbox,
            this each process).
    """
    values = {
        "RLIMIT_NOFILE": limits.nofile,
        "RLIMIT_FSIZE": limits.fsize_mb * 2**20,
        "RLIMIT_CORE": 0,
    }
    if memory:
        values["RLIMIT_DATA"] = limits.memory_mb * 2**20
    return values


def hit_memory_rlimit(returncode: int | None, stderr: str) -> bool:
    """Whether a program that failed under a memory rlimit says itself that it ran out of memory."""
    lines = stderr.rstrip().splitlines()
    return bool(returncode) and bool(lines) and lines[-1].startswith("MemoryError")
