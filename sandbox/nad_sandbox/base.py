"""Define the protocol of a sandbox, the limits and the result of a program, and the exceptions.

Three outcomes are kept apart: a sandbox that is unavailable or breaks raises an exception; a program that fails gives
an ``ExecResult`` with a non-zero return code; a program that hits a limit gives an ``ExecResult`` with a flag set.

SandboxError
├── SandboxUnavailableError   no engine, no image, no permission: nothing was run
└── SandboxFailureError       the sandbox broke while running a program; nothing is known of the program
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

__all__ = [
    "ExecResult",
    "HarnessSandbox",
    "Limits",
    "Sandbox",
    "SandboxError",
    "SandboxFailureError",
    "SandboxUnavailableError",
]


class SandboxError(Exception):
    """Base class of every exception that nad_sandbox raises on purpose."""


class SandboxUnavailableError(SandboxError):
    """Raised when no sandbox can be made here; the message says what is missing and how to get it."""


class SandboxFailureError(SandboxError):
    """Raised when the sandbox broke while a program ran; this says nothing about the program."""


@dataclass(frozen=True)
class Limits:
    """The resources that one program may use.

    Attributes:
        timeout: Wall-clock seconds, enforced from outside the sandbox.
        memory_mb: Memory in MiB, swap included.
        cpus: Number of CPU cores.
        pids: Number of processes and threads together.
        nofile: Number of open files of each process.
        fsize_mb: Size of each file in MiB.
        tmpfs_mb: Size of the writable scratch space in MiB; shared memory gets a quarter of that in addition.
        output_bytes: Number of bytes that are kept of each of stdout and stderr; further bytes are counted and dropped.
    """

    timeout: float = 10.0
    memory_mb: int = 256
    cpus: float = 1.0
    pids: int = 64
    nofile: int = 256
    fsize_mb: int = 16
    tmpfs_mb: int = 32
    output_bytes: int = 64 * 1024


@dataclass(frozen=True)
class ExecResult:
    """How a program ended.

    Attributes:
        returncode: The exit status; negative or 128 + n for signal n; None when the sandbox killed the program.
        stdout: The program's standard output, decoded as UTF-8 with replacement; output beyond the limit loses its
            middle.
        stderr: The program's standard error, kept like `stdout`.
        duration: Wall-clock seconds that the program ran.
        timed_out: Whether the time limit ended the program.
        oom_killed: Whether the memory limit ended the program.
        output_truncated: Whether the program wrote more than was kept.
        python_version: Version of the sandbox's Python, such as "3.13.1"; empty when the sandbox does not report it.
    """

    returncode: int | None
    stdout: str
    stderr: str
    duration: float
    timed_out: bool = False
    oom_killed: bool = False
    output_truncated: bool = False
    python_version: str = ""

    @property
    def ok(self) -> bool:
        """Whether the program exited with status 0, within its limits of time and memory."""
        return self.returncode == 0 and not self.timed_out and not self.oom_killed

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-serializable data."""
        return asdict(self)


@runtime_checkable
class Sandbox(Protocol):
    """Runs untrusted programs in isolation, each call in a fresh environment; safe to use from several threads."""

    def exec(
        self,
        cmd: Sequence[str],
        *,
        input: str | bytes | None = None,  # noqa: A002 - the name subprocess uses
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """Run a command, given as a list of arguments and without a shell, and wait for it."""
        ...

    def run_python(
        self,
        code: str,
        *,
        stdin: str | bytes = b"",
        files: Mapping[str, str | bytes] | None = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """Run Python source as ``__main__``, with `files` beside it in the working folder, and wait for it."""
        ...

    async def aexec(
        self,
        cmd: Sequence[str],
        *,
        input: str | bytes | None = None,  # noqa: A002
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """Do what `exec` does without blocking the event loop; cancelling the task kills the program."""
        ...

    async def arun_python(
        self,
        code: str,
        *,
        stdin: str | bytes = b"",
        files: Mapping[str, str | bytes] | None = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """Do what `run_python` does without blocking the event loop; cancelling the task kills the program."""
        ...

    def close(self) -> None:
        """Remove everything that the sandbox started; may be called twice."""
        ...


@runtime_checkable
class HarnessSandbox(Protocol):
    """A sandbox of this package, whose bootstrap program can run a program of the harness itself."""

    def run_python(
        self,
        code: str,
        *,
        stdin: str | bytes = b"",
        files: Mapping[str, str | bytes] | None = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """Run Python source; see `Sandbox.run_python`."""
        ...

    def run_harness(self, harness: bytes, payload: bytes, *, compiled: bool, timeout: float) -> ExecResult:
        """Run a program of the harness, given as source or as marshalled code of the sandbox's Python."""
        ...
