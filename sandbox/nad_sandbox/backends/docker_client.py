"""Connect to a Docker engine, and translate its errors."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nad_sandbox.base import SandboxUnavailableError

if TYPE_CHECKING:
    import docker


__all__ = ["connect", "engine_errors"]

_REQUEST_SECONDS = 60


def connect(docker_host: str | None = None) -> docker.APIClient:
    """Return a client of a Docker engine that answers.

    Args:
        docker_host: Address of the engine; default: DOCKER_HOST (with DOCKER_TLS_VERIFY and DOCKER_CERT_PATH), else the
            default socket.

    Raises:
        SandboxUnavailableError: The package `docker` is not installed, or no engine answers at the address.
    """
    try:
        import docker
        from docker.constants import DEFAULT_UNIX_SOCKET
        from docker.errors import DockerException
        from docker.utils import kwargs_from_env
    except ImportError as error:
        raise SandboxUnavailableError(
            "the Docker sandbox needs the package docker; install it with `pip install nad-agents[sandbox]`"
        ) from error
    settings: dict[str, Any] = dict(kwargs_from_env())
    if docker_host is not None:
        settings["base_url"] = docker_host
    where = settings.get("base_url", "the default socket")
    try:
        _try_unix_socket(settings.get("base_url", DEFAULT_UNIX_SOCKET))
        client = docker.APIClient(version="auto", timeout=_REQUEST_SECONDS, **settings)
    except (DockerException, OSError) as error:
        raise SandboxUnavailableError(
            f"no Docker engine answers at {where} ({_innermost(error)}); start one, or set DOCKER_HOST"
        ) from error
    return client


@contextlib.contextmanager
def engine_errors(image: str) -> Iterator[None]:
    """Turn errors of an engine that makes a container or looks for an image into errors that say what to do.

    Args:
        image: The requested image.

    Raises:
        SandboxUnavailableError: The engine has no such image, refused the request, or cannot be reached.
    """
    from docker.errors import APIError, DockerException, ImageNotFound, NotFound
    from requests.exceptions import RequestException

    try:
        yield
    except ImageNotFound:
        raise SandboxUnavailableError(
            f"the engine has no image {image!r}; build it with `python -m nad_sandbox.image`, "
            "or pass build=True, or image=... with one that it has"
        ) from None
    except (APIError, NotFound) as error:
        raise SandboxUnavailableError(f"the Docker engine refused the sandbox: {error.explanation or error}") from error
    except (DockerException, RequestException, OSError) as error:
        raise SandboxUnavailableError(f"the Docker engine cannot be reached: {error}") from error


def _try_unix_socket(address: str) -> None:
    """Connect to a Unix socket and close it again, since the client leaks a socket on which nothing answers.

    Raises:
        OSError: Nothing answers on the socket.
    """
    kind, _, path = address.partition("://")
    if kind in ("unix", "http+unix") and hasattr(socket, "AF_UNIX"):
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as tried:
            tried.connect(f"/{path.lstrip('/')}")


def _innermost(error: BaseException) -> str:
    """Return the message of the innermost of the client's nested errors."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error)
