"""Server-sent events: the frames, the keep-alives, and errors where the status has been sent already."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

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

    async def stream() -> AsyncIterator[str]:
        ended = False
        try:
            async for frame in with_silences(frames, service.settings.keep_alive_seconds):
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

    return StreamingResponse(stream(), media_type="text/event-stream", headers=_HEADERS)
