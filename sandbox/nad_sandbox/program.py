"""Describe one program to run: its command, files and standard input, and the bytes that carry them into a sandbox.

The feed is what the bootstrap program (see `nad_sandbox.isolation.bootstrap`) reads from its standard input: an 8-byte
big-endian length, a JSON header of that length, then a program of the harness if it is not known yet, the mark, the
program's standard input and each file's content.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePosixPath

from nad_sandbox.base import Limits

__all__ = [
    "END_PROGRAM",
    "MAIN_FILE",
    "PROGRAM_ENV",
    "Program",
    "command_program",
    "harness_name",
    "harness_program",
    "python_program",
]

MAIN_FILE = "main.py"
"""Name, in the working folder, of the file with the source given to `run_python`."""

END_PROGRAM = b"\x18"
"""Byte that asks the bootstrap program of a session to end the program that runs."""

PROGRAM_ENV: dict[str, str] = {
    "LANG": "C.UTF-8",
    "PYTHONUTF8": "1",
    "PYTHONUNBUFFERED": "1",  # output printed before a kill must not be lost in a buffer
    "PYTHONDONTWRITEBYTECODE": "1",
    # the user has no account, so programs that ask for its name get this one
    "USER": "nobody",
    "LOGNAME": "nobody",
    # otherwise numeric libraries start one thread per core of the host and hit the pids limit
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""Environment variables that every program gets."""

_ALARM_GRACE_SECONDS = 30

# the kernel's limits, minus the length of the working folder
_LONGEST_NAME = 255
_LONGEST_PATH = 4000


@dataclass(frozen=True)
class Program:
    """A program to run once.

    Attributes:
        argv: The command; empty for the sandbox's Python on `MAIN_FILE`, and for a program of the harness.
        timeout: Limit in wall-clock seconds.
        env: Environment variables in addition to `PROGRAM_ENV`.
        files: Names of files in the working folder, and their content.
        stdin: Content of the program's standard input.
        harness: A program of this package, which the bootstrap program runs itself; empty for other programs.
        compiled: Whether `harness` is marshalled code of the sandbox's Python instead of source.
        folder: The folder in which the command starts, as seen from the working folder.
        merge_output: Whether standard error goes to standard output, in the order in which the program writes.
        output_bytes: Number of bytes to keep of each output; None: `Limits.output_bytes`.
    """

    argv: tuple[str, ...]
    timeout: float
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    stdin: bytes = b""
    harness: bytes = b""
    compiled: bool = False
    folder: str = "."
    merge_output: bool = False
    output_bytes: int | None = None

    @property
    def size(self) -> int:
        """Return the number of bytes that the files and the standard input take in the scratch space."""
        return len(self.stdin) + sum(len(content) for content in self.files.values())

    def feed(
        self, rlimits: Mapping[str, int] | None = None, *, mark: str | None = None, known: bool = False
    ) -> Iterator[bytes]:
        """Yield the bytes for the bootstrap program, piece by piece.

        Args:
            rlimits: Values of resource limits by name, such as ``RLIMIT_NOFILE``; they are set just before the program.
            mark: Mark that is written to both outputs, with the status, once all the program's processes have ended.
            known: Whether the bootstrap program has received `harness` before.
        """
        header = {
            "argv": list(self.argv) or None,
            "harness": harness_name(self.harness) if self.harness else None,
            "harness_size": 0 if known else len(self.harness),
            "compiled": self.compiled,
            "main": MAIN_FILE,
            "env": {**PROGRAM_ENV, **self.env},
            "files": [[name, len(content)] for name, content in self.files.items()],
            "stdin": len(self.stdin),
            "rlimits": dict(rlimits or {}),
            "mark": len(mark or ""),
            "folder": self.folder,
            "merge": self.merge_output,
            "alarm": math.ceil(self.timeout) + _ALARM_GRACE_SECONDS,
        }
        encoded = json.dumps(header).encode()
        yield len(encoded).to_bytes(8, "big") + encoded
        if not known:
            yield self.harness
        yield (mark or "").encode()
        yield self.stdin
        yield from self.files.values()

    def oversize_message(self, limits: Limits) -> str | None:
        """Return why the program cannot fit into the scratch space; None when it can."""
        room = limits.tmpfs_mb * 2**20
        if self.size <= room:
            return None
        return (
            f"nad_sandbox: the program, its files and its input take {self.size} bytes, "
            f"and the scratch space has {room}; raise Limits.tmpfs_mb to run it\n"
        )


def command_program(
    cmd: Sequence[str],
    *,
    stdin: str | bytes | None,
    env: Mapping[str, str] | None,
    timeout: float,
) -> Program:
    """Return the program that runs a command.

    Args:
        cmd: The executable and its arguments.
        stdin: Content of its standard input.
        env: Environment variables in addition to `PROGRAM_ENV`.
        timeout: Limit in wall-clock seconds.

    Raises:
        TypeError: `cmd` is a single string, or `cmd` or `env` contains something other than strings.
        ValueError: `cmd` is empty, an argument or a variable cannot be passed to a program, or `timeout` is not
            positive.
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
        if not _is_encodable(argument):
            raise ValueError(f"cmd holds {argument!r}: an argument must be text that UTF-8 can encode")
    return Program(argv, _checked_timeout(timeout), env=_checked_env(env), stdin=_encode(stdin or b""))


def python_program(
    code: str,
    *,
    stdin: str | bytes,
    files: Mapping[str, str | bytes] | None,
    timeout: float,
) -> Program:
    """Return the program that runs Python source.

    Args:
        code: The source.
        stdin: Content of its standard input.
        files: Relative names of files, and their contents.
        timeout: Limit in wall-clock seconds.

    Raises:
        TypeError: The name of a file is not a string.
        ValueError: The name of a file is absolute, leaves the working folder, is `MAIN_FILE`, repeats another name, is
            also a folder of another name, or is too long for a file system; or `timeout` is not positive.
    """
    contents = {MAIN_FILE: _encode(code)}
    for name, content in (files or {}).items():
        path = _checked_name(name)
        if path in contents:
            raise ValueError(f"files: {name!r} names the file {path!r} a second time")
        contents[path] = _encode(content)
    for path in contents:
        both = [str(folder) for folder in PurePosixPath(path).parents if str(folder) in contents]
        if both:
            raise ValueError(f"files: {both[0]!r} cannot be both a file and the folder of {path!r}")
    return Program((), _checked_timeout(timeout), files=contents, stdin=_encode(stdin))


def harness_program(harness: bytes, payload: bytes, *, compiled: bool, timeout: float) -> Program:
    """Return the program that runs a program of the harness.

    Args:
        harness: Source of the program of the harness, or its compiled form.
        payload: What that program reads from standard input.
        compiled: Whether `harness` is the compiled form.
        timeout: Wall-clock limit in seconds.

    Raises:
        ValueError: `timeout` is not positive.
    """
    return Program((), _checked_timeout(timeout), stdin=payload, harness=harness, compiled=compiled)


@lru_cache(maxsize=8)
def harness_name(harness: bytes) -> str:
    """Return the name under which the bootstrap program keeps a program of the harness."""
    return hashlib.sha256(harness).hexdigest()


def _encode(text: str | bytes) -> bytes:
    """Encode text; lone surrogates are kept, so that Python inside the sandbox rejects the source as it should."""
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else bytes(text)


def _checked_name(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"files: the name {name!r} is no string")
    path = PurePosixPath(name)
    if not name or "\0" in name or path.is_absolute() or ".." in path.parts or str(path) in {".", MAIN_FILE}:
        raise ValueError(
            f"files: {_shortened(name)} cannot be used: a name is relative, stays in the folder, and is not {MAIN_FILE}"
        )
    if not _is_encodable(name):
        raise ValueError(f"files: {_shortened(name)} cannot be used: a name must be text that UTF-8 can encode")
    if len(name.encode()) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in path.parts):
        raise ValueError(
            f"files: {_shortened(name)} is too long: a name has at most {_LONGEST_NAME} bytes, and with its folders "
            f"{_LONGEST_PATH:,}"
        )
    return str(path)


def _shortened(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:60]}...") + (
        f" ({len(name):,} characters)" if len(name) > 80 else ""
    )


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _checked_env(env: Mapping[str, str] | None) -> dict[str, str]:
    for name, value in (env or {}).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"env: {name!r}={value!r} must be two strings")
        if not name or "=" in name or "\0" in name + value or not _is_encodable(name + value):
            raise ValueError(f"env: {name!r}={value!r} is not a valid environment variable")
    return dict(env or {})


def _checked_timeout(timeout: float) -> float:
    if not timeout > 0:
        raise ValueError(f"timeout is {timeout}: it must be a positive number of seconds")
    return float(timeout)
