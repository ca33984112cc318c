"""Build sandbox images with more Python packages: wheels are fetched on the host and copied into the image."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nad_sandbox.base import Limits, SandboxUnavailableError
from nad_sandbox.image.pytest_files import PACKAGES, collect_pytest
from nad_sandbox.image.wheels import fetch_wheels
from nad_sandbox.ownership.temp_folders import owned_folder
from nad_sandbox.program import command_program

if TYPE_CHECKING:
    import docker

__all__ = ["PYTEST_LABEL", "add_packages", "add_pytest"]

PYTEST_LABEL = "nad-sandbox.pytest"
"""Label of images that have pytest for the tests of programs."""

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
_PYTEST = """FROM {base}
USER 0:0
COPY packages {folder}
RUN {python} -m compileall -q --invalidation-mode unchecked-hash {folder} || true
LABEL {label}={version}
USER 65534:65534
"""


def add_packages(
    packages: Sequence[str], tag: str, *, base: str, api: docker.APIClient | None = None, python: str = "python3"
) -> str:
    """Build an image with more packages on top of a sandbox image.

    Args:
        packages: Requirements as pip accepts them, such as ``numpy`` or ``pandas==2.2.3``; they must have wheels.
        tag: Name of the new image.
        base: The image to build on, which the engine must have.
        api: The engine's client; default: a client for DOCKER_HOST, else for the default socket.
        python: The interpreter in the image.

    Returns:
        The id of the image.

    Raises:
        SandboxUnavailableError: No engine answers, the base image is missing, or pip or the build failed; the message
            says why.
        ValueError: `packages` is empty, or contains an option of pip.
    """
    if not packages or any(not package.strip() or package.startswith("-") for package in packages):
        raise ValueError(f"packages={list(packages)!r}: name one or more packages, such as numpy or pandas==2.2.3")
    with _client(api) as engine, owned_folder() as folder:
        # 1. find out which interpreter the wheels are for
        about = _ask_image(engine, base, python)
        if about["libc"] != "glibc":
            raise SandboxUnavailableError(f"the image {base} is not based on glibc; build yours with docker build")
        # 2. fetch the wheels
        fetch_wheels(packages, folder / "packages", about["version"], about["machine"])
        # 3. build the image
        recipe = _DOCKERFILE.format(base=base, folder=about["folder"], python=python)
        return _build(folder, recipe, tag, engine)


def add_pytest(tag: str, *, base: str, api: docker.APIClient | None = None, python: str = "python3") -> str:
    """Build an image with pytest on top of another, in a place that the harness knows and programs do not import from.

    Args:
        tag: Name of the new image, which may be that of `base`.
        base: The image to build on, which the engine must have.
        api: The engine's client; default: a client for DOCKER_HOST, else for the default socket.
        python: The interpreter in the image.

    Returns:
        The id of the image.

    Raises:
        SandboxUnavailableError: No pytest fits the image's Python, or the build failed; the message says why.
    """
    with _client(api) as engine, owned_folder() as folder:
        about = _ask_image(engine, base, python)
        version = about["version"]
        collect_pytest(folder / "packages", version, about["machine"])
        label = {"label": PYTEST_LABEL, "version": version}
        return _build(folder, _PYTEST.format(base=base, folder=PACKAGES, python=python, **label), tag, engine)


@contextlib.contextmanager
def _client(api: docker.APIClient | None) -> Iterator[docker.APIClient]:
    """Provide a client of the engine: the caller's, or a new one that is closed at the end."""
    from nad_sandbox.backends.docker_client import connect

    if api is not None:
        yield api
        return
    with contextlib.closing(connect()) as made:
        yield made


def _ask_image(api: docker.APIClient, image: str, python: str) -> dict[str, str]:
    """Ask an image for the version and place of its Python.

    Raises:
        SandboxUnavailableError: The image has no working Python.
    """
    from nad_sandbox.backends.container_recipe import ContainerRecipe
    from nad_sandbox.backends.docker_container import DockerContainer

    limits = Limits(timeout=60)
    program = command_program([python, "-I", "-c", _ASK], stdin=None, env=None, timeout=limits.timeout)
    container = DockerContainer(api, ContainerRecipe(image, python, limits, None), volumes=[])
    try:
        asked = container.run(program, threading.Event())
    finally:
        container.remove()
    if not asked.ok:
        raise SandboxUnavailableError(f"the image {image} has no Python that works: {asked.stderr.strip()[-300:]}")
    about: dict[str, str] = json.loads(asked.stdout)
    return about


def _build(folder: Path, recipe: str, tag: str, api: docker.APIClient) -> str:
    """Build an image from a folder and a recipe, and return its id.

    Raises:
        SandboxUnavailableError: The image cannot be built.
    """
    from docker.errors import DockerException

    (folder / "Dockerfile").write_text(recipe, encoding="utf-8")
    try:
        for line in api.build(fileobj=_context(folder), custom_context=True, tag=tag, rm=True, decode=True):
            if "error" in line:
                raise SandboxUnavailableError(f"the image {tag} could not be built: {line['error'].strip()}")
        return str(api.inspect_image(tag)["Id"])
    except DockerException as error:
        raise SandboxUnavailableError(f"the image {tag} could not be built: {error}") from error


def _context(folder: Path) -> io.BytesIO:
    """Return the build's context, owned by root and readable by all."""

    def owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(folder, arcname=".", filter=owned)
    packed.seek(0)
    return packed
