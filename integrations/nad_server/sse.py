"""Server-sent events: their form, keep-alives in silent streams, and errors after the status has been sent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from nad_server.errors import APIError, as_api_error, shutting_down
from nad_server.json_response import dump_json

if TYPE_CHECKING:
    from nad_server.state import ServerState

__all__ = ["DONE", "ServerSentEvent", "event_stream", "with_silences"]

T = TypeVar("T")

DONE = "data: [DONE]\n\n"
"""The last event of a stream of OpenAI's older endpoints."""

_PING = ": ping\n\n"
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class ServerSentEvent(str):
    """One event in the form in which it is sent."""

    __slots__ = ()

    @classmethod
    def of(cls, content: Any, name: str | None = None) -> ServerSentEvent:
        """Make an event of JSON data, with a name where the protocol names its events."""
        head = f"event: {name}\n" if name else ""
        return cls(f"{head}data: {dump_json(content)}\n\n")


class _EventResponse(StreamingResponse):
    """A streaming response that closes its source when it ends, and does not leave that to garbage collection."""

    def __init__(self, source: AsyncGenerator[str]) -> None:
        super().__init__(source, media_type="text/event-stream", headers=_HEADERS)
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; a client that leaves while sending is blocked leaves the source in the middle."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._source.aclose()


def event_stream(
    request: Request,
    events: AsyncGenerator[str],
    *,
    ping: Callable[[], str] = lambda: _PING,
    failed: Callable[[APIError], str] = lambda error: ServerSentEvent.of(error.body()),
    done: str = DONE,
) -> StreamingResponse:
    """Return a streaming response that sends keep-alives and ends with an error event if its source fails.

    Args:
        request: The request.
        events: The source of the events.
        ping: Makes the keep-alive that is sent after every `ServerSettings.keep_alive_seconds` of silence.
        failed: Makes the event that reports an error.
        done: The last event.

    Raises:
        APIError: The server takes no further request; once the stream has begun, it would be too late for a status.
    """
    state: ServerState = request.app.state.server
    state.admission.check()

    async def stream() -> AsyncGenerator[str]:
        ended = False
        try:
            with state.until_stopped() as stopped:
                async with aclosing(with_silences(events, state.settings.keep_alive_seconds, stopped)) as source:
                    async for event in source:
                        yield ping() if event is None else event
            ended = True
            yield done
        except Exception as error:  # noqa: BLE001 - the status has been sent, so the stream has to report the error
            ended = True
            yield failed(as_api_error(error))
            yield done
        finally:
            if not ended:
                state.metrics.disconnects.inc()

    return _EventResponse(stream())


async def with_silences(
    source: AsyncGenerator[T], seconds: float, stopped: asyncio.Future[None]
) -> AsyncGenerator[T | None]:
    """Yield what a source yields, and None after every period in which it yielded nothing.

    Args:
        source: The source, which is closed in the end.
        seconds: The length of the period.
        stopped: Done when the server has to stop.

    Raises:
        APIError: 503 because the server stops before the source has ended.
    """
    step: asyncio.Task[T] | None = None
    try:
        while True:
            step = step or asyncio.create_task(_next(source))
            waited_for: set[asyncio.Future[Any]] = {step, stopped}
            await asyncio.wait(waited_for, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not step.done():
                if stopped.done():
                    raise shutting_down()
                yield None
                continue
            finished, step = step, None
            try:
                item = finished.result()
            except StopAsyncIteration:
                return
            except Exception as error:
                # errors in a server that stops are caused by the stop
                if stopped.done():
                    raise shutting_down() from error
                raise
            yield item
    finally:
        if step is not None:
            step.cancel()
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
                await step
        await source.aclose()


async def _next(source: AsyncGenerator[T]) -> T:
    # create_task takes a coroutine, and anext() returns another kind of awaitable
    return await anext(source)
