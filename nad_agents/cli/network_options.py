"""The options of the commands that listen: address, port and API keys."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address
from typing import Annotated

import typer

from nad_agents.cli.options import REPEATABLE
from nad_agents.exceptions import ConfigurationError

__all__ = ["LOOPBACK", "APIKeyOption", "HostOption", "PortOption", "api_keys", "check_address", "is_loopback"]

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Names by which only this machine reaches itself."""

APIKeyOption = Annotated[
    list[str] | None,
    typer.Option("--api-key", help=f"Key that requests must bring; default: $NAD_API_KEY. {REPEATABLE}"),
]
HostOption = Annotated[
    str,
    typer.Option(
        help="Address to listen on. On a loopback address without a key, only requests to loopback names are answered."
    ),
]
PortOption = Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)]


def api_keys(given: list[str] | None) -> tuple[str, ...]:
    """Return the keys that requests may bring: those of `--api-key`, else that of the environment; empty without any.

    Args:
        given: The values of `--api-key`.

    Raises:
        ConfigurationError: A key is empty.
    """
    keys = tuple(given or filter(None, [os.environ.get("NAD_API_KEY")]))
    if any(not key.strip() for key in keys):
        msg = "--api-key: an API key is empty, which would let everybody in; give one, or none at all"
        raise ConfigurationError(msg)
    return keys


def check_address(host: str, port: int) -> None:
    """Check that a server can listen on an address, since a model takes a while to load.

    Args:
        host: The value of `--host`.
        port: The value of `--port`.

    Raises:
        ConfigurationError: Another program listens there, or the address is not one of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            if os.name == "posix":  # as servers do, so that connections that have ended do not keep the port
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        msg = (
            f"--host {host} --port {port}: {reason[:1].lower()}{reason[1:]}; give an address of this machine, and a "
            "free port, such as --port 0"
        )
        raise ConfigurationError(msg) from error


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK
