"""Server-sent events: the frames, the keep-alives, and errors where the status has been sent already."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from nad_server.admission import closing
from nad_server.errors import APIError, as_api_error, dump_json
from nad_server.generate import T

if TYPE_CHECKING:
    from nad_server.state import ServerState

__all__ = [
    "DONE",
    "ClientGoneError",
    "FirstText",
    "ServerSentEvent",
    "event_stream",
    "while_connected",
    "with_silences",
]


DONE = "data: [DONE]\n\n"

_PING = ": ping\n\n"

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class ServerSentEvent(str):
    """One event as it goes over the wire."""

    __slots__ = ()

    @classmethod
    def of(cls, content: Any, name: str | None = None) -> ServerSentEvent:
        """An event of JSON, with a name where the protocol names its events."""
        head = f"event: {name}\n" if name else ""
        return cls(f"{head}data: {dump_json(content)}\n\n")


class FirstText:
    """Says when the first text of a stream came.

    Args:
        state: counts it.
        endpoint: of the request.
    """

    def __init__(self, state: ServerState, endpoint: str) -> None:
        self._observe = state.metrics.first_token_seconds.labels(endpoint).observe
        self._started = time.perf_counter()
        self._seen = False

    def seen(self) -> None:
        """Text came."""
        if not self._seen:
            self._seen = True
            self._observe(time.perf_counter() - self._started)


class _EventResponse(StreamingResponse):
    """A response of events that ends its source when it ends itself, not when it is collected as garbage."""

    def __init__(self, source: AsyncGenerator[str]) -> None:
        super().__init__(source, media_type="text/event-stream", headers=_HEADERS)
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it; a client that leaves while nothing can be sent leaves the source in the middle."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._source.aclose()


def event_stream(
    request: Request,
    frames: AsyncGenerator[str],
    *,
    ping: Callable[[], str] = lambda: _PING,
    failed: Callable[[APIError], str] = lambda error: ServerSentEvent.of(error.body()),
    done: str = DONE,
) -> StreamingResponse:
    """A response of events that is never silent for long, and ends with an error event where something fails.

    Args:
        request: which is answered.
        frames: the events.
        ping: what breaks a silence.
        failed: the event that says what failed.
        done: the last event.
    """
    state: ServerState = request.app.state.server
    # who cannot come in learns it by the status
    state.admission.check()

    async def stream() -> AsyncGenerator[str]:
        ended = False
        try:
            with state.until_stopped() as stopped:
                async with aclosing(with_silences(frames, state.settings.keep_alive_seconds, stopped)) as source:
                    async for frame in source:
                        yield ping() if frame is None else frame
            ended = True
            yield done
        except Exception as error:  # noqa: BLE001 - the status is out, so the stream has to say it
            ended = True
            yield failed(as_api_error(error))
            yield done
        finally:
            if not ended:
                state.metrics.disconnects.inc()

    return _EventResponse(stream())


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of some work, which is cancelled as soon as the client is gone or the server has to stop.

    Raises:
        ClientGoneError: the client left.
        APIError: 503, the server stops.
    """
    state: ServerState = request.app.state.server
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        with state.until_stopped() as stopped:
            await asyncio.wait(_any_of(task, gone, stopped), return_when=asyncio.FIRST_COMPLETED)
            # what fails in a server that stops fails because it stops
            if task.done() and not (stopped.done() and task.exception()):
                return task.result()
            if stopped.done():
                raise closing()
        raise ClientGoneError
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def with_silences(
    source: AsyncGenerator[T], seconds: float, stopped: asyncio.Future[None]
) -> AsyncGenerator[T | None]:
    """What a source yields, and None whenever it has been silent for so many seconds.

    Raises:
        APIError: 503, the server stops, and the source has not ended.
    """
    step: asyncio.Task[T] | None = None
    try:
        while True:
            step = step or asyncio.create_task(_next(source))
            await asyncio.wait(_any_of(step, stopped), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not step.done():
                if stopped.done():
                    raise closing()
                yield None
                continue
            finished, step = step, None
            try:
                item = finished.result()
            except StopAsyncIteration:
                return
            except Exception as error:
                # what fails in a server that stops fails because it stops
                if stopped.done():
                    raise closing() from error
                raise
            yield item
    finally:
        if step is not None:
            step.cancel()
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
                await step
        await source.aclose()


def _any_of(*futures: asyncio.Future[Any]) -> set[asyncio.Future[Any]]:
    return set(futures)


async def _next(source: AsyncGenerator[T]) -> T:
    return await anext(source)
