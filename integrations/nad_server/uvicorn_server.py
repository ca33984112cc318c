"""The process of the server: it listens, and it stops in such a way that every client gets a response."""

from __future__ import annotations

import asyncio
import socket
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from fastapi import FastAPI

    from nad_server.state import ServerState

__all__ = ["serve"]

_FAREWELL_SECONDS = 5
"""How long a request that is ended has for telling its client."""


def serve(
    app: FastAPI, *, host: str = "127.0.0.1", port: int = 8000, sockets: list[socket.socket] | None = None
) -> None:
    """Serve until a signal to stop; a second signal ends the running requests at once.

    Args:
        app: The application, from `create_app`.
        host: The address to listen on; 127.0.0.1 serves this machine alone.
        port: The port to listen on; 0 takes a free one.
        sockets: Sockets to listen on instead of host and port.
    """
    state: ServerState = app.state.server
    patience = int(state.settings.shutdown_seconds) + _FAREWELL_SECONDS
    # the application has no lifespan events, and a second signal would interrupt uvicorn while it sends them
    config = uvicorn.Config(
        app, host=host, port=port, log_level="info", timeout_graceful_shutdown=patience, lifespan="off"
    )
    _Server(config, state).run(sockets)


class _Server(uvicorn.Server):
    """uvicorn's server, which closes the queue and ends requests before it stops."""

    def __init__(self, config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config)
        self._state = state
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a signal handler's signature
        """Stop admitting requests, and let the running ones finish for a while; at a second signal end them.

        uvicorn's own handler raises the signal again in the end, which kills the process before its sandbox is closed.
        """
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._state.stop if self.force_exit else self._wind_down)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for the running requests, and then end those that are left."""
        await super().shutdown(sockets)
        self._state.stop()

    def _wind_down(self) -> None:
        assert self._loop is not None
        self._state.admission.close()
        self._loop.call_later(self._state.settings.shutdown_seconds, self._state.stop)
