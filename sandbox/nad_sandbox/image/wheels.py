"""Fetch and unpack wheels for an interpreter other than this one, without running them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from nad_sandbox.base import SandboxUnavailableError

__all__ = ["fetch_wheels"]

_GLIBC = ("2_17", "2_24", "2_27", "2_28", "2_31", "2_34", "2_35", "2_36")


def fetch_wheels(packages: Sequence[str], folder: Path, version: str, machine: str) -> None:
    """Unpack wheels for another interpreter into a folder.

    Args:
        packages: Requirements as pip accepts them.
        folder: Folder to create.
        version: Version of the interpreter, such as "3.11.2".
        machine: Architecture of the machine, such as "x86_64".

    Raises:
        SandboxUnavailableError: pip cannot fetch the wheels; the message has its reason.
    """
    platforms = [f"--platform=manylinux_{glibc}_{machine}" for glibc in _GLIBC]
    platforms.append(f"--platform=manylinux2014_{machine}")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--only-binary=:all:", "--no-compile"]
    command += [f"--target={folder}", f"--python-version={version}", "--implementation=cp", *platforms, *packages]
    fetched = subprocess.run(command, capture_output=True, text=True, check=False)
    if fetched.returncode:
        errors = [line for line in fetched.stderr.splitlines() if "error" in line.lower()]
        reason = errors[-1] if errors else fetched.stderr.strip()[-300:]
        raise SandboxUnavailableError(f"pip could not get {', '.join(packages)} as wheels: {reason}")
