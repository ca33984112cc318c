"""What a sandbox offers: the protocol, the result of a run, its limits, and the exceptions.

Three different things are kept apart: the sandbox being unavailable raises; a program failing is an
``ExecResult`` with a non-zero return code; a limit being hit is a flag on the ``ExecResult``.

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
    """Root of every exception that nad_sandbox raises on purpose."""


class SandboxUnavailableError(SandboxError):
    """No isolated environment can be had here; the message says how to get one."""


class SandboxFailureError(SandboxError):
    """The sandbox broke while a program ran; this says nothing about the program."""


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    Attributes:
        timeout: wall-clock seconds, enforced from outside.
        memory_mb: memory including swap, MiB.
        cpus: CPU cores.
        pids: processes and threads.
        nofile: open files.
        fsize_mb: size of one file, MiB.
        tmpfs_mb: size of the writable scratch space, MiB; shared memory has a quarter of that beside it.
        output_bytes: bytes of stdout and of stderr that are kept, each.
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
        returncode: exit status; negative or 128 + n for signal n; None when it was killed by the sandbox.
        stdout: what it wrote, decoded as UTF-8 with replacement, cut at the limit.
        stderr: likewise.
        duration: wall-clock seconds.
        timed_out: the time limit ended it.
        oom_killed: the memory limit ended it.
        output_truncated: more was written than was kept.
        python_version: version of the sandbox's Python, such as "3.13.1"; empty when the sandbox does not tell.
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
        """Whether it exited with status 0 within every limit."""
        return self.returncode == 0 and not self.timed_out and not self.oom_killed

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-serialisable data."""
        return asdict(self)


@runtime_checkable
class Sandbox(Protocol):
    """An isolated place to run untrusted programs, one fresh environment for each call; thread-safe."""

    def exec(
        self,
        cmd: Sequence[str],
        *,
        input: str | bytes | None = None,  # noqa: A002 - the name subprocess uses
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """Run a command (argv, no shell) and wait for it."""
        ...

    def run_python(
        self,
        code: str,
        *,
        stdin: str | bytes = b"",
        files: Mapping[str, str | bytes] | None = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """Run Python source as ``__main__`` with `files` beside it in the working folder."""
        ...

    async def aexec(
        self,
        cmd: Sequence[str],
        *,
        input: str | bytes | None = None,  # noqa: A002
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """`exec` without blocking the event loop; cancelling the task kills the program."""
        ...

    async def arun_python(
        self,
        code: str,
        *,
        stdin: str | bytes = b"",
        files: Mapping[str, str | bytes] | None = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """`run_python` without blocking the event loop; cancelling the task kills the program."""
        ...

    def close(self) -> None:
        """Remove everything the sandbox started; may be called twice."""
        ...


@runtime_checkable
class HarnessSandbox(Protocol):
    """A sandbox of this package, whose bootstrap program can itself become a program of the harness."""

    def run_python(
        self,
        code: str,
        *,
        stdin: str | bytes = b"",
        files: Mapping[str, str | bytes] | None = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """See `Sandbox`."""
        ...

    def run_harness(self, harness: bytes, payload: bytes, *, compiled: bool, timeout: float) -> ExecResult:
        """Run a program of the harness: its source, or marshalled code of the sandbox's Python."""
        ...
