"""The server over streamable HTTP: the key, the check of host and origin, and an orderly end."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.provider import AccessToken
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.routing import Route

if TYPE_CHECKING:
    from typing import Any

    from mcp.server.mcpserver import MCPServer

__all__ = ["create_http_app", "run_http"]

_PATH = "/mcp"
_FAREWELL_SECONDS = 5
"""How long open streams have to end after the signal to stop."""


class _Keys:
    """The valid API keys, as the tokens that mcp's middleware asks for."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = [key.encode() for key in keys]

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return who brings a token, or None if it is no key."""
        # every key is compared, so that the time does not reveal which key was nearly right
        matches = [hmac.compare_digest(token.strip().encode(), key) for key in self._keys]
        return AccessToken(token=token, client_id=f"key {matches.index(True)}", scopes=[]) if any(matches) else None


def create_http_app(server: MCPServer[Any], *, api_keys: Sequence[str] = (), hosts: Sequence[str] = ()) -> Starlette:
    """Return the ASGI application that serves an MCP server at /mcp over streamable HTTP.

    Args:
        server: The server, from `create_server`.
        api_keys: Keys, one of which each request must bring as its bearer token; empty admits everybody.
        hosts: Host names without port by which requests may address the server, and from whose pages they may come;
            empty allows every name. On a server for one machine alone they keep out web pages whose name is made to
            lead to that machine.
    """
    names = [f"[{host}]" if ":" in host else host for host in hosts]
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=bool(hosts),
        allowed_hosts=[name for host in names for name in (host, f"{host}:*")],
        allowed_origins=[name for host in names for name in (f"http://{host}", f"http://{host}:*")],
    )
    app = server.streamable_http_app(streamable_http_path=_PATH, transport_security=security)
    if api_keys:
        for route in app.routes:
            assert isinstance(route, Route)
            route.app = RequireAuthMiddleware(route.app, required_scopes=[])
        app.add_middleware(AuthenticationMiddleware, backend=BearerAuthBackend(_Keys(api_keys)))
    return app


class _Server(uvicorn.Server):
    """uvicorn's server; once it has stopped, the caller goes on."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a signal handler's signature
        """Stop listening, and at a second signal drop the open connections.

        uvicorn's own handler raises the signal again in the end, which kills the process before its sandbox is closed.
        """
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True


def run_http(app: Starlette, *, host: str, port: int) -> None:
    """Serve until a signal to stop.

    Args:
        app: The application, from `create_http_app`.
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.
    """
    config = uvicorn.Config(app, host=host, port=port, log_level="info", timeout_graceful_shutdown=_FAREWELL_SECONDS)
    _Server(config).run()
