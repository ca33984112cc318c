"""Server-sent events: the frames, the keep-alives, and errors where the status has been sent already."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from nad_server.answering import with_silences
from nad_server.errors import APIError, as_api_error, dump_json

if TYPE_CHECKING:
    from nad_server.service import Service

__all__ = ["DONE", "FirstText", "Frame", "event_stream"]

DONE = "data: [DONE]\n\n"
_PING = ": ping\n\n"
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class Frame(str):
    """One event as it goes over the wire."""

    __slots__ = ()

    @classmethod
    def of(cls, content: Any, name: str | None = None) -> Frame:
        """An event of JSON, with a name where the protocol names its events."""
        head = f"event: {name}\n" if name else ""
        return cls(f"{head}data: {dump_json(content)}\n\n")


class FirstText:
    """Says when the first text of a stream came.

    Args:
        service: counts it.
        endpoint: of the request.
    """

    def __init__(self, service: Service, endpoint: str) -> None:
        self._observe = service.metrics.first_token_seconds.labels(endpoint).observe
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
    failed: Callable[[APIError], str] = lambda error: Frame.of(error.body()),
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
    service: Service = request.app.state.service
    # who cannot come in learns it by the status
    service.admission.check()

    async def stream() -> AsyncGenerator[str]:
        ended = False
        try:
            with service.until_stopped() as stopped:
                async with aclosing(with_silences(frames, service.settings.keep_alive_seconds, stopped)) as source:
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
                service.metrics.disconnects.inc()

    return _EventResponse(stream())
