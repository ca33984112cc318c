"""A server for assistants that speak the Model Context Protocol: best-of-N, checks of code and a sandbox as tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nad_agents.lazy_imports import lazy_imports

if TYPE_CHECKING:
    from nad_mcp.http import create_http_app
    from nad_mcp.server import create_server

__all__ = ["create_http_app", "create_server"]

# the `nad` command loads this package at each start, and mcp only where it is used; an mcp below version 2 is found
# and has no such modules
__getattr__, __dir__ = lazy_imports(
    __name__,
    {"create_http_app": "nad_mcp.http", "create_server": "nad_mcp.server"},
    missing={
        "mcp": "nad mcp needs the package mcp, version 2.1 or later; install it with: pip install 'nad-agents[mcp]'"
    },
)
