"""Build the project's sandbox image, with or without a registry.

``python -m nad_sandbox.image`` builds the image; ``python -m nad_sandbox.image --help`` lists the options.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nad_sandbox.base import SandboxUnavailableError
from nad_sandbox.ownership.temp_folders import owned_folder

if TYPE_CHECKING:
    import docker

__all__ = ["IMAGE", "OFFICIAL_IMAGE", "BuildMethod", "build_image"]

_IMAGE_VERSION = "3"
"""Version of the image, which changes only when the image's recipe changes, not with every release."""

IMAGE = f"nad-sandbox:{_IMAGE_VERSION}"
"""The image that `DockerSandbox` uses unless told otherwise."""

OFFICIAL_IMAGE = "python:3.13-slim"
"""The image on which the Dockerfile builds unless told otherwise."""

BuildMethod = Literal["auto", "debian", "dockerfile"]

_CHANGES = (
    "ENV PATH=/usr/local/bin:/usr/bin LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1",
    "USER 65534:65534",
    'CMD ["python3"]',
)


def build_image(
    tag: str = IMAGE,
    *,
    api: docker.APIClient | None = None,
    method: BuildMethod = "auto",
    rootfs: Path | None = None,
    base: str = OFFICIAL_IMAGE,
) -> str:
    """Build the sandbox image.

    Args:
        tag: Name of the new image.
        api: The engine's client; default: a client for DOCKER_HOST, else for the default socket.
        method: "dockerfile" builds on an image with Python. "debian" unpacks packages of the Debian-based distribution
            on which this process runs: it needs no registry, and brings that distribution's Python. "auto" uses
            "dockerfile" where the engine has or can pull the base image, else "debian".
        rootfs: For "debian", a file that keeps the unpacked system between builds.
        base: For "dockerfile", the base image, which has a Python.

    Returns:
        The id of the image.

    Raises:
        SandboxUnavailableError: No engine answers, or the build failed; the message has the build's last line.
    """
    from nad_sandbox.backends.docker_client import connect
    from nad_sandbox.image.packages import add_pytest

    with contextlib.ExitStack() as stack:
        if api is None:
            api = connect()
            stack.callback(api.close)
        if method == "auto":
            unpacks = all(map(shutil.which, ("apt-get", "dpkg-deb", "tar")))
            method = "debian" if rootfs is not None or (unpacks and not _gets_image(api, base)) else "dockerfile"
        recipes = stack.enter_context(resources.as_file(resources.files("nad_sandbox.image")))
        if method == "dockerfile":
            _build_from_dockerfile(api, recipes, tag, base)
        else:
            folder = stack.enter_context(owned_folder())
            if rootfs is None:
                rootfs = folder / "rootfs.tar"
            _make_rootfs(recipes / "debian-rootfs.sh", rootfs, folder)
            repository, _, version = tag.partition(":")
            api.import_image_from_file(
                str(rootfs), repository=repository, tag=version or "latest", changes=list(_CHANGES)
            )
        # without pytest the image still runs programs, and tests that do not need it
        with contextlib.suppress(SandboxUnavailableError):
            add_pytest(tag, base=tag, api=api)
        return str(api.inspect_image(tag)["Id"])


def _gets_image(api: docker.APIClient, image: str) -> bool:
    """Return whether the engine has an image, or could pull it now from its registry."""
    from docker.errors import DockerException, ImageNotFound
    from requests.exceptions import RequestException

    try:
        try:
            api.inspect_image(image)
        except ImageNotFound:
            repository, _, tag = image.partition(":")
            api.pull(repository, tag=tag or "latest")
            api.inspect_image(image)
    except (DockerException, RequestException):
        return False
    return True


def _make_rootfs(script: Path, rootfs: Path, folder: Path) -> None:
    if rootfs.exists():
        return
    environment = {**os.environ, "TMPDIR": str(folder)}
    command = ["bash", str(script), str(rootfs)]
    built = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if built.returncode:
        words = built.stderr.strip().splitlines()
        raise SandboxUnavailableError(
            f"the sandbox image could not be built from Debian's packages: {words[-1] if words else 'no message'}; "
            "where there is a registry, `python -m nad_sandbox.image --method dockerfile` builds it too"
        )


def _build_from_dockerfile(api: docker.APIClient, folder: Path, tag: str, base: str) -> None:
    from docker.errors import DockerException

    arguments = {"BASE": base}
    try:
        for line in api.build(path=str(folder), tag=tag, buildargs=arguments, rm=True, forcerm=True, decode=True):
            if "error" in line:
                raise SandboxUnavailableError(f"the sandbox image could not be built: {line['error'].strip()}")
    except DockerException as error:
        raise SandboxUnavailableError(f"the sandbox image could not be built: {error}") from error
