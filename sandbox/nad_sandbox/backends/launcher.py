"""Shared by the backends: start the bootstrap program, which confines itself and becomes the program to run."""

from __future__ import annotations

from typing import Literal

from nad_sandbox.base import Limits

__all__ = [
    "BOOTSTRAP_FLAGS",
    "READY_SIZE",
    "START_SECONDS",
    "Lifetime",
    "hit_memory_rlimit",
    "python_version",
    "rlimits",
    "session_settings",
]

BOOTSTRAP_FLAGS = ("-I", "-S", "-X", "utf8", "-c")
"""Flags that start an interpreter for the bootstrap program: isolated, without site packages, in UTF-8 mode."""

READY_SIZE = 16
"""Size in bytes of the message that the bootstrap program writes once it waits for its program."""

START_SECONDS = 20.0
"""Seconds that a sandbox process may take until it is ready."""

Lifetime = Literal["programs", "session", "background session"]
"""What a sandbox is for: programs that share nothing, or a session whose programs share files, and processes too."""

_READY = b"\x06"


def session_settings(lifetime: Lifetime) -> dict[str, bool] | None:
    """Return the bootstrap program's settings of a session; None for a sandbox that is no session."""
    return None if lifetime == "programs" else {"background": lifetime == "background session"}


def python_version(message: bytes) -> str | None:
    """Return the version of Python in a ready message; None when the bytes are something else."""
    if len(message) != READY_SIZE or not message.startswith(_READY):
        return None
    return message[len(_READY) :].decode("ascii", "replace").strip()


def rlimits(limits: Limits, *, memory: bool) -> dict[str, int]:
    """Return the resource limits of a program by their names in the module `resource`.

    Args:
        limits: Limits of the program.
        memory: Bound the private memory of each process too. This is for machines without control groups, which bound
            the memory of a whole sandbox.
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
    """Return whether a program that failed under a memory rlimit reports that it ran out of memory.

    Args:
        returncode: The program's exit status; None if it was killed.
        stderr: What the program wrote to standard error.
    """
    lines = stderr.rstrip().splitlines()
    return bool(returncode) and bool(lines) and lines[-1].startswith("MemoryError")
