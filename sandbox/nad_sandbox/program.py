"""One program to run: its command, files and standard input, and the bytes that carry them into a sandbox.

The feed is what the bootstrap program (see ``bootstrap.py``) reads from its standard input: an 8-byte
big-endian length, a JSON header of that length, then each file's content and the standard input.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from nad_sandbox.base import Limits

__all__ = ["MAIN_FILE", "PROGRAM_ENV", "Job", "command_job", "harness_job", "python_job"]

MAIN_FILE = "main.py"
"""The name under which the source given to `run_python` lies in the working folder."""

PROGRAM_ENV: dict[str, str] = {
    "LANG": "C.UTF-8",
    "PYTHONUTF8": "1",
    "PYTHONUNBUFFERED": "1",  # what was printed before a kill is not lost in a buffer
    "PYTHONDONTWRITEBYTECODE": "1",
    # numeric libraries start one thread per core of the host otherwise, and run into the pids limit
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""Environment variables that every program gets."""


ALARM_GRACE_SECONDS = 30


@dataclass(frozen=True)
class Job:
    """A program to run once.

    Attributes:
        argv: the command; empty for "the sandbox's Python on `MAIN_FILE`", or for a program of the harness.
        env: variables beside `PROGRAM_ENV`.
        files: file names in the working folder and their content.
        stdin: what the program reads from its standard input.
        timeout: wall-clock seconds.
        harness: a program of this package, which the bootstrap program runs itself; empty for other programs.
        compiled: whether `harness` is marshalled code of the sandbox's Python, and not source.
    """

    argv: tuple[str, ...]
    timeout: float
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    stdin: bytes = b""
    harness: bytes = b""
    compiled: bool = False

    @property
    def size(self) -> int:
        """Bytes that the files and the standard input take in the scratch space."""
        return len(self.stdin) + sum(len(content) for content in self.files.values())

    def feed(self, rlimits: Mapping[str, int] | None = None, *, mark: str | None = None) -> Iterator[bytes]:
        """The bytes for the bootstrap program, piece by piece.

        Args:
            rlimits: names of resource limits (``RLIMIT_NOFILE``) and values, set just before the program.
            mark: written to both outputs, with the status, when the program and all its processes have ended.
        """
        header = {
            "argv": list(self.argv) or None,
            "harness": len(self.harness),
            "compiled": self.compiled,
            "main": MAIN_FILE,
            "env": {**PROGRAM_ENV, **self.env},
            "files": [[name, len(content)] for name, content in self.files.items()],
            "stdin": len(self.stdin),
            "rlimits": dict(rlimits or {}),
            "mark": mark,
            "alarm": math.ceil(self.timeout) + ALARM_GRACE_SECONDS,
        }
        encoded = json.dumps(header).encode()
        yield len(encoded).to_bytes(8, "big") + encoded
        yield self.harness
        yield from self.files.values()
        yield self.stdin

    def oversize_message(self, limits: Limits) -> str | None:
        """Why the job cannot fit into the scratch space; None when it can."""
        room = limits.tmpfs_mb * 2**20
        if self.size <= room:
            return None
        return (
            f"nad_sandbox: the program, its files and its input take {self.size} bytes, "
            f"and the scratch space has {room}; raise Limits.tmpfs_mb to run it\n"
        )


def command_job(
    cmd: Sequence[str],
    *,
    stdin: str | bytes | None,
    env: Mapping[str, str] | None,
    timeout: float,
) -> Job:
    """The job for a command.

    Raises:
        TypeError: `cmd` is one string, or holds something else than strings.
        ValueError: `cmd` is empty, holds a NUL, or `timeout` is not positive.
    """
    if isinstance(cmd, str | bytes):
        raise TypeError(f"cmd must be a sequence of arguments, not the string {cmd!r}: there is no shell")
    argv = tuple(cmd)
    if not argv:
        raise ValueError("cmd is empty: give at least the program's name")
    for argument in argv:
        if not isinstance(argument, str):
            raise TypeError(f"cmd holds {argument!r}: every argument must be a string")
        if "\0" in argument:
            raise ValueError(f"cmd holds {argument!r}: an argument cannot contain a NUL byte")
    return Job(argv, _checked_timeout(timeout), env=_checked_env(env), stdin=_encode(stdin or b""))


def python_job(
    code: str,
    *,
    stdin: str | bytes,
    files: Mapping[str, str | bytes] | None,
    timeout: float,
) -> Job:
    """The job for Python source.

    Raises:
        ValueError: a file's name is absolute, leaves the working folder, or is `MAIN_FILE`; or `timeout` is
            not positive.
    """
    contents = {MAIN_FILE: _encode(code)}
    for name, content in (files or {}).items():
        contents[_checked_name(name)] = _encode(content)
    return Job((), _checked_timeout(timeout), files=contents, stdin=_encode(stdin))


def harness_job(harness: bytes, payload: bytes, *, compiled: bool, timeout: float) -> Job:
    """The job for a program of the harness.

    Raises:
        ValueError: `timeout` is not positive.
    """
    return Job((), _checked_timeout(timeout), stdin=payload, harness=harness, compiled=compiled)


def _encode(text: str | bytes) -> bytes:
    """Bytes of a text; lone surrogates go through, and make Python refuse the source, as they should."""
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else bytes(text)


def _checked_name(name: str) -> str:
    path = PurePosixPath(name)
    if not name or "\0" in name or path.is_absolute() or ".." in path.parts or str(path) in {".", MAIN_FILE}:
        raise ValueError(
            f"files: {name!r} cannot be used: a name is relative, stays in the folder, and is not {MAIN_FILE}"
        )
    return str(path)


def _checked_env(env: Mapping[str, str] | None) -> dict[str, str]:
    for name, value in (env or {}).items():
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"env: {name!r}={value!r} is not a valid environment variable")
    return dict(env or {})


def _checked_timeout(timeout: float) -> float:
    if not timeout > 0:
        raise ValueError(f"timeout is {timeout}: it must be a positive number of seconds")
    return float(timeout)
