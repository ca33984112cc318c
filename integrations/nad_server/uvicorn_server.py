"""The server's process: listening, and stopping so that every request hears how it ended."""

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

_LAST_WORDS_SECONDS = 5
"""What a request that is ended gets to tell its client."""


def serve(
    app: FastAPI, *, host: str = "127.0.0.1", port: int = 8000, sockets: list[socket.socket] | None = None
) -> None:
    """Serve until a signal to stop; a second one stops at once.

    Args:
        app: from `create_app`.
        host: address to listen on; 127.0.0.1 lets in this machine alone.
        port: 0 takes a free one.
        sockets: listen on these instead.
    """
    state: ServerState = app.state.server
    grace = state.settings.shutdown_seconds
    patience = int(grace) + _LAST_WORDS_SECONDS
    # the app has nothing to do before or after, and would be interrupted at it by a second signal
    config = uvicorn.Config(
        app, host=host, port=port, log_level="info", timeout_graceful_shutdown=patience, lifespan="off"
    )
    _Server(config, state).run(sockets)


class _Server(uvicorn.Server):
    """uvicorn's server, which tells the service before it stops."""

    def __init__(self, config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config)
        self._state = state
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a signal handler's signature
        """A signal: nobody comes in any more, who waits is sent away, who runs may finish for a while.

        uvicorn's own would raise the signal again in the end, which kills the process before its sandbox is closed.
        """
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._state.stop if self.force_exit else self._wind_down)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for the requests that run; then nothing is left that anybody waits for."""
        await super().shutdown(sockets)
        self._state.stop()

    def _wind_down(self) -> None:
        assert self._loop is not None
        self._state.admission.close()
        self._loop.call_later(self._state.settings.shutdown_seconds, self._state.stop)
