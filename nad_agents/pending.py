"""The caller's side of a submitted prompt: wait for its result or follow its events, and cancel it.

The engine's thread generates the candidates, observed by `nad_agents.observer.RequestObserver`. Once they have ended,
the selection (`nad_agents.selection`) runs on a thread of the caller's: the one that calls `result`, or a worker thread
if the caller is a coroutine or watches. A request is cancelled by `cancel`, by its deadline, and whenever its caller
stops waiting, by an exception or by closing the events.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Protocol, TypeVar

from nad_agents.engine.scheduled_request import GenerationResult, ScheduledRequest
from nad_agents.event_queue import EventQueue
from nad_agents.events import DecodingEvent, Finished, TextDelta, WinnerChosen
from nad_agents.observer import RequestObserver
from nad_agents.selection import SelectionPlan
from nad_agents.types import Selection
from nad_agents.waves import WavesUntilEnough

__all__ = ["PendingRequest", "submit_in_thread"]


class PendingRequest:
    """A submitted prompt; for one thread or one coroutine at a time, except for `cancel`.

    Args:
        scheduled: The request in the scheduler's hands.
        observer: The engine thread's side of the request.
        plan: How the winner is selected.
        events: Events from the observer and the selection.
        watch: Whether there are events about every candidate, and about the selection while it runs.
    """

    def __init__(
        self,
        scheduled: ScheduledRequest | WavesUntilEnough,
        observer: RequestObserver,
        plan: SelectionPlan,
        events: EventQueue,
        *,
        watch: bool = False,
    ) -> None:
        self._scheduled = scheduled
        self._observer = observer
        self._plan = plan
        self._events = events
        self._watch = watch
        self._future = scheduled.future
        self._future.add_done_callback(lambda _: events.end())

    @property
    def cancelled(self) -> bool:
        """Whether the request was cancelled or its deadline has passed."""
        return self._scheduled.cancellation.cancelled

    def cancel(self) -> None:
        """Stop generating within a chunk and checking before the next check; no effect on a finished request."""
        self._scheduled.cancellation.cancel()

    def outcome(self) -> GenerationResult:
        """Wait for the candidates and return them without selecting.

        Raises:
            GenerationTimeoutError: The deadline has passed.
            GenerationCancelledError: The request was cancelled.
            GenerationError: The model failed.
        """
        with self._cancelled_when_left():
            return self._future.result()

    def result(self) -> Selection:
        """Wait for the candidates, then select and verify on this thread.

        Raises:
            NoCandidatePassedError: No candidate passed, and the verification config asks for an error.
            VerificationError: The verifier failed.
            GenerationError: See `outcome`.
        """
        with self._cancelled_when_left():
            return self._select(self.outcome())

    async def aresult(self) -> Selection:
        """Do what `result` does without blocking the event loop; cancelling the task cancels the request."""
        with self._cancelled_when_left():
            outcome = await asyncio.wrap_future(self._future)
            return await asyncio.to_thread(self._select, outcome)

    def events(self) -> Generator[DecodingEvent, None, None]:
        """Yield events as they happen, Finished last; closing the generator cancels the request.

        A request that was not submitted with `streaming` has the events of its end only.

        Raises:
            NADError: See `result`.
        """
        with self._cancelled_when_left():
            yield from self._events.until_end()
            selection = (yield from self._watched_selection()) if self._watch else self.result()
            yield from self._last_events(selection)

    async def aevents(self) -> AsyncGenerator[DecodingEvent, None]:
        """Do what `events` does without blocking the event loop."""
        with self._cancelled_when_left():
            # 1. while the candidates grow
            async with contextlib.aclosing(self._events.auntil_end()) as growing:
                async for event in growing:
                    yield event
            # 2. while the winner is selected
            selecting = asyncio.ensure_future(self.aresult())
            selecting.add_done_callback(lambda _: self._events.end())
            try:
                async with contextlib.aclosing(self._events.auntil_end()) as checked:
                    async for event in checked:
                        yield event
                selection = await selecting
            finally:
                selecting.cancel()
            # 3. the end
            for event in self._last_events(selection):
                yield event

    @contextlib.contextmanager
    def _cancelled_when_left(self) -> Iterator[None]:
        """Cancel the request if its caller leaves the block early, by an exception or by closing a generator."""
        self._scheduled.check_process()
        try:
            yield
        except BaseException:
            self.cancel()
            raise

    def _select(self, outcome: GenerationResult) -> Selection:
        return self._plan.select(
            outcome,
            self._observer.policy.decision,
            cancellation=self._scheduled.cancellation,
            send=self._events.put if self._watch else None,
        )

    def _watched_selection(self) -> Generator[DecodingEvent, None, Selection]:
        """Select on another thread, so that this one yields verdicts as they come."""
        pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nad-select")
        try:
            selecting = pool.submit(self.result)
            selecting.add_done_callback(lambda _: self._events.end())
            yield from self._events.until_end()
        finally:
            pool.shutdown(wait=False)
        return selecting.result()

    def _last_events(self, selection: Selection) -> Iterator[DecodingEvent]:
        if self._observer.winner is None:
            yield WinnerChosen(selection.winner)
        if len(selection.text) > self._observer.sent_characters:
            yield TextDelta(selection.text[self._observer.sent_characters :])
        yield Finished(selection)


class _Cancellable(Protocol):
    def cancel(self) -> None: ...


C = TypeVar("C", bound=_Cancellable)


async def submit_in_thread(submit: Callable[[], C], executor: Executor | None = None) -> C:
    """Call `submit` on another thread, as loading a model or compiling a grammar takes a while.

    If the task is cancelled meanwhile, whatever was submitted is cancelled as soon as it exists.

    Args:
        submit: Returns a `PendingRequest`, or anything else with a `cancel` method.
        executor: Threads to call it on; None takes the event loop's default executor.
    """
    context = contextvars.copy_context()
    submitting = asyncio.get_running_loop().run_in_executor(executor, lambda: context.run(submit))
    try:
        return await asyncio.shield(submitting)
    except asyncio.CancelledError:
        submitting.add_done_callback(_cancel_submitted)
        raise


def _cancel_submitted(submitting: asyncio.Future[C]) -> None:
    if not submitting.cancelled() and submitting.exception() is None:
        submitting.result().cancel()
