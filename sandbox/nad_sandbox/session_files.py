"""The programs that write and read one file of a session, and what their results mean.

The program of the harness does the work inside the sandbox; see ``nad_sandbox/harness/file_transfer.py``.
"""

from __future__ import annotations

import base64
import contextlib
import json
from dataclasses import replace

from nad_sandbox.base import ExecResult, SandboxFailureError
from nad_sandbox.harness import file_transfer_source
from nad_sandbox.program import Program, harness_program

__all__ = ["check_transfer", "checked_path", "download_program", "downloaded_content", "upload_program"]

_TRANSFER_SECONDS = 120.0


def upload_program(path: str, content: bytes) -> Program:
    """Return the program that writes a file.

    Args:
        path: The file, absolute or as seen from the working folder.
        content: Its content.

    Raises:
        TypeError: `path` is no string.
        ValueError: `path` names no file.
    """
    return replace(_transfer(path, content, len(content), write=True), output_bytes=4096)


def download_program(path: str, max_bytes: int) -> Program:
    """Return the program that reads a file; see `downloaded_content`.

    Args:
        path: The file, absolute or as seen from the working folder.
        max_bytes: Largest size of a file that is read.

    Raises:
        TypeError: `path` is no string.
        ValueError: `path` names no file.
    """
    # base64 takes four bytes for three
    return replace(_transfer(path, b"", max_bytes, write=False), output_bytes=4096 + 4 * (max_bytes // 3 + 1))


def check_transfer(result: ExecResult, path: str) -> None:
    """Raise the error that a program of this module reports.

    Args:
        result: How the program ended.
        path: The file, for the message.

    Raises:
        OSError: The sandbox's system refused.
        SandboxFailureError: The program did not end as it should.
    """
    if result.returncode == 0:
        return
    with contextlib.suppress(ValueError):
        number, text = json.loads(result.stderr)
        raise OSError(number, text, path)
    reason = "timed out" if result.timed_out else result.stderr.strip() or f"ended with status {result.returncode}"
    raise SandboxFailureError(f"the transfer of {path!r} failed: it {reason}")


def downloaded_content(result: ExecResult, path: str) -> bytes:
    """Return the content that the program of `download_program` read.

    Args:
        result: How the program ended.
        path: The file, for the message.

    Raises:
        OSError: The sandbox's system refused.
        SandboxFailureError: The program did not end as it should, or its output was mixed with another's.
    """
    check_transfer(result, path)
    try:
        return base64.b64decode(result.stdout, validate=True)
    except ValueError as error:
        raise SandboxFailureError(
            f"the content of {path!r} was mixed with what a background process printed; send its output to a file"
        ) from error


def checked_path(path: str) -> str:
    """Return a path.

    Raises:
        TypeError: The path is no string.
        ValueError: The path is empty or contains a NUL byte.
    """
    if not isinstance(path, str):
        raise TypeError(f"the path {path!r} is no string")
    if not path or "\0" in path:
        raise ValueError(f"the path {path!r} names no file: it must not be empty or contain a NUL byte")
    return path


def _transfer(path: str, content: bytes, size: int, *, write: bool) -> Program:
    request = json.dumps({"write": write, "path": checked_path(path), "size": size}).encode()
    payload = len(request).to_bytes(8, "big") + request + content
    return harness_program(file_transfer_source().encode(), payload, compiled=False, timeout=_TRANSFER_SECONDS)
