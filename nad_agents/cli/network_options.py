"""The options of the commands that listen: address, port and API keys."""

from __future__ import annotations

import os
from ipaddress import ip_address
from typing import Annotated

import typer

from nad_agents.cli.options import REPEATABLE
from nad_agents.exceptions import ConfigurationError

__all__ = ["LOOPBACK", "APIKeyOption", "HostOption", "PortOption", "api_keys", "is_loopback"]

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


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK
