"""One call on its way: submitted to the decoder, with a deadline, waited for with or without an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from langchain_nad.errors import GenerationTimeoutError
from nad_agents.events import DecodingEvent
from nad_agents.exceptions import GenerationCancelledError
from nad_agents.types import Selection

if TYPE_CHECKING:
    from nad_agents.request import PendingRequest

__all__ = ["Run", "start_run"]


@dataclass(eq=False)
class Run:
    """A submitted request.

    Attributes:
        pending: the decoder's handle.
        timeout: seconds from now until generation is stopped; None sets no limit.
    """

    pending: PendingRequest
    timeout: float | None = None
    _expired: bool = field(default=False, init=False)

    def cancel(self) -> None:
        """Stop generating within a chunk; without effect on a finished run."""
        self.pending.cancel()

    def result(self) -> Selection:
        """Wait for the selection.

        Raises:
            GenerationTimeoutError: the deadline passed.
            NADError: see `NeuronAgreementDecoder.decode`.
        """
        with self._watched():
            return self.pending.result()

    async def aresult(self) -> Selection:
        """`result` without blocking the event loop; cancelling the task stops the generation within a chunk."""
        with self._watched():
            return await self.pending.aresult()

    def events(self) -> Generator[DecodingEvent, None, None]:
        """What happens, as it happens; closing the generator stops the generation. The run must be a streaming one."""
        with self._watched():
            yield from self.pending.events()

    async def aevents(self) -> AsyncGenerator[DecodingEvent, None]:
        """`events` without blocking the event loop."""
        with self._watched():
            async with contextlib.aclosing(self.pending.aevents()) as events:  # type: ignore[type-var] # a generator, typed as iterator
                async for event in events:
                    yield event

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Cancel at the deadline and whenever the caller leaves early."""
        timer = None
        if self.timeout is not None:
            timer = threading.Timer(self.timeout, self._expire)
            timer.daemon = True
            timer.start()
        try:
            yield
        except GenerationCancelledError as error:
            if self._expired and self.timeout is not None:
                raise GenerationTimeoutError(self.timeout) from error
            raise
        finally:
            if timer is not None:
                timer.cancel()
            self.pending.cancel()

    def _expire(self) -> None:
        self._expired = True
        self.pending.cancel()


class _Cancellable(Protocol):
    def cancel(self) -> None: ...


C = TypeVar("C", bound=_Cancellable)


async def start_run(start: Callable[[], C]) -> C:
    """Call `start` on another thread, since loading a model or compiling a grammar takes a while.

    A task that is cancelled meanwhile cancels what was started as soon as it exists.
    """
    starting = asyncio.ensure_future(asyncio.to_thread(start))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_cancel_started)
        raise


def _cancel_started(starting: asyncio.Future[C]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        starting.result().cancel()
