"""Sandbox images with more Python packages: wheels are fetched on this side and copied into the image."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nad_sandbox.base import SandboxUnavailableError
from nad_sandbox.ownership.temp_folders import owned_folder

if TYPE_CHECKING:
    import docker

__all__ = ["add_packages"]

_ASK = (
    "import json, platform, site, sys; print(json.dumps({'version': platform.python_version(), "
    "'machine': platform.machine(), 'folder': site.getsitepackages()[0], 'libc': platform.libc_ver()[0]}))"
)
_DOCKERFILE = """FROM {base}
USER 0:0
COPY packages {folder}
# some packages bring files that do not compile, such as templates: those are never imported
RUN {python} -m compileall -q {folder} || true
ENV OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
USER 65534:65534
"""
_GLIBC = ("2_17", "2_24", "2_27", "2_28", "2_31", "2_34", "2_35", "2_36")


def add_packages(
    packages: Sequence[str], tag: str, *, base: str, api: docker.APIClient | None = None, python: str = "python3"
) -> str:
    """Build an image with more packages on top of a sandbox image.

    Args:
        packages: requirements as pip takes them, such as ``numpy`` or ``pandas==2.2.3``; they must have wheels.
        tag: the new image's name.
        base: the image to begin with, which the engine has.
        api: the engine's client; default: one for DOCKER_HOST, else for the default socket.
        python: the interpreter in the image.

    Returns:
        The id of the image.

    Raises:
        SandboxUnavailableError: no engine, no such base image, or pip or the build failed; the message says why.
        ValueError: there are no packages, or one of them is an option of pip.
    """
    if not packages or any(not package.strip() or package.startswith("-") for package in packages):
        raise ValueError(f"packages={list(packages)!r}: name one or more packages, such as numpy or pandas==2.2.3")
    from docker.errors import DockerException

    from nad_sandbox.backends.docker import DockerSandbox
    from nad_sandbox.backends.docker_client import connect

    # 1. which interpreter the wheels are for
    with DockerSandbox(base, python=python, prestart=0) as sandbox:
        asked = sandbox.exec([python, "-I", "-c", _ASK])
    if not asked.ok:
        raise SandboxUnavailableError(f"the image {base} has no Python that works: {asked.stderr.strip()[-300:]}")
    about = json.loads(asked.stdout)
    if about["libc"] != "glibc":
        raise SandboxUnavailableError(f"the image {base} is not based on glibc; build yours with docker build")
    with owned_folder() as folder:
        # 2. the wheels
        _fetch(packages, folder / "packages", about["version"], about["machine"])
        # 3. the image
        recipe = _DOCKERFILE.format(base=base, folder=about["folder"], python=python)
        (folder / "Dockerfile").write_text(recipe, encoding="utf-8")
        client = connect() if api is None else api
        try:
            for line in client.build(fileobj=_context(folder), custom_context=True, tag=tag, rm=True, decode=True):
                if "error" in line:
                    raise SandboxUnavailableError(f"the image {tag} could not be built: {line['error'].strip()}")
            return str(client.inspect_image(tag)["Id"])
        except DockerException as error:
            raise SandboxUnavailableError(f"the image {tag} could not be built: {error}") from error
        finally:
            if api is None:
                client.close()


def _fetch(packages: Sequence[str], folder: Path, version: str, machine: str) -> None:
    """Unpack wheels for another interpreter into a folder; nothing of theirs is run."""
    platforms = [f"--platform=manylinux_{glibc}_{machine}" for glibc in _GLIBC]
    platforms.append(f"--platform=manylinux2014_{machine}")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--only-binary=:all:", "--no-compile"]
    command += [f"--target={folder}", f"--python-version={version}", "--implementation=cp", *platforms, *packages]
    fetched = subprocess.run(command, capture_output=True, text=True, check=False)
    if fetched.returncode:
        errors = [line for line in fetched.stderr.splitlines() if "error" in line.lower()]
        reason = errors[-1] if errors else fetched.stderr.strip()[-300:]
        raise SandboxUnavailableError(f"pip could not get {', '.join(packages)} as wheels: {reason}")


def _context(folder: Path) -> io.BytesIO:
    """The build's context, owned by root and readable by all."""

    def owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(folder, arcname=".", filter=owned)
    packed.seek(0)
    return packed
