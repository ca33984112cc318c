"""Work for a client is cancelled as soon as the client leaves or the server has to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import Request

from nad_server.errors import shutting_down

if TYPE_CHECKING:
    from nad_server.state import ServerState

__all__ = ["ClientGoneError", "while_connected"]

T = TypeVar("T")


class ClientGoneError(Exception):
    """The client left before it got its response."""


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine, which is cancelled when the client leaves or the server has to stop.

    Args:
        request: The request whose client waits for the result.
        work: The coroutine.

    Raises:
        ClientGoneError: The client left.
        APIError: 503 because the server stops.
    """
    state: ServerState = request.app.state.server
    task: asyncio.Future[T] = asyncio.ensure_future(work)
    disconnected: asyncio.Future[None] = asyncio.ensure_future(_disconnected(request))
    try:
        with state.until_stopped() as stopped:
            waited_for: set[asyncio.Future[Any]] = {task, disconnected, stopped}
            await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
            # errors in a server that stops are caused by the stop
            if task.done() and not (stopped.done() and task.exception()):
                return task.result()
            if stopped.done():
                raise shutting_down()
        raise ClientGoneError
    finally:
        for future in (task, disconnected):
            future.cancel()
        await asyncio.gather(task, disconnected, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
