"""A server for assistants that speak the Model Context Protocol: best-of-N, checks of code and a sandbox as tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nad_mcp.http import create_http_app
    from nad_mcp.server import create_server

__all__ = ["create_http_app", "create_server"]

_LAZY = {"create_http_app": "nad_mcp.http", "create_server": "nad_mcp.server"}


def __getattr__(name: str) -> Any:
    """Import the package mcp at its first use, since the `nad` command loads this package at each start.

    Raises:
        MissingDependencyError: The extra `mcp` is not installed.
    """
    if name not in _LAZY:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    try:
        return getattr(import_module(_LAZY[name]), name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "mcp":
            raise
        from nad_agents.exceptions import MissingDependencyError

        # an mcp below version 2 is found, and has no such module
        msg = "nad mcp needs the package mcp, version 2.1 or later; install it with: pip install 'nad-agents[mcp]'"
        raise MissingDependencyError(msg) from error


def __dir__() -> list[str]:
    return sorted(__all__)
