"""Share one engine between many callers: one thread owns the engine and advances all requests together.

The prompt of one request at a time is read in pieces, between which the batch advances by a chunk, so that no running
candidate waits for a long prompt. Requests enter the batch at the end of a chunk, share every forward pass, and leave
the batch as soon as they are done, cancelled or failed. The thread ends when there is nothing to do and starts again
with the next request.

The engine's thread alone uses the engine, calls the observers and changes the list of active requests. Callers add to
the waiting requests, under the lock, and cancel; they get results through futures.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence

from nad_agents.engine.base import Engine
from nad_agents.engine.scheduled_request import GenerationResult, ScheduledRequest
from nad_agents.exceptions import ConfigurationError, GenerationError, NADError
from nad_agents.fork import call_in_forked_child
from nad_agents.types import DEFAULT_ROWS

__all__ = ["Scheduler"]

_PREFILL_BUDGET = 512
"""Prompt tokens, of one request or several, after which the batch advances before more is read."""

_IDLE_SECONDS = 2.0
"""How long the thread waits for another request before it ends."""

_EXIT_SECONDS = 30.0
"""How long `Scheduler.stop` waits for the thread."""

_STARTED: weakref.WeakSet[Scheduler] = weakref.WeakSet()
"""Schedulers to stop before the interpreter exits: a thread that computes during the exit aborts the process."""


class Scheduler:
    """Runs the requests of many threads on one engine.

    Args:
        engine: The engine; from now on only the scheduler's thread may use it.
        max_rows: No request joins the batch if it would then have more rows than this; a request alone may be larger.
        share_batches: False runs one request after the other. In a shared batch the last bits of a matrix product
            depend on the number of rows, so a request may differ from the same request run alone.

    Attributes:
        steps: Number of times that the batch was advanced, by a chunk or less.

    Raises:
        ConfigurationError: `max_rows` is below 1.
    """

    def __init__(self, engine: Engine, *, max_rows: int = DEFAULT_ROWS, share_batches: bool = True) -> None:
        if max_rows < 1:
            msg = f"max_rows={max_rows} leaves no room for a candidate; give at least 1"
            raise ConfigurationError(msg)
        self.engine = engine
        self.max_rows = max_rows
        self.share_batches = share_batches
        self.steps = 0
        self._forked = False
        self._begin()
        call_in_forked_child(self._begin_after_fork)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[ScheduledRequest] = deque()
        self._prefilling: ScheduledRequest | None = None
        self._active: list[ScheduledRequest] = []
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._error: GenerationError | None = None

    def _begin_after_fork(self) -> None:
        """Forget the parent's thread and its requests; the engine is reset when the child first uses it."""
        self._begin()
        self._forked = True

    @property
    def prompt_tokens_left(self) -> int:
        """Number of tokens that are still to be read of the prompt that is being read; 0 if none is."""
        prefilling = self._prefilling
        prefill = prefilling.prefill if prefilling is not None else None
        return prefill.tokens_left if prefill is not None else 0

    def submit(self, requests: Sequence[ScheduledRequest]) -> None:
        """Queue requests; those of one call enter the batch in this order, together if there is room.

        Raises:
            NADError: One of the requests cannot work, the engine's thread has ended by an error, or this process was
                forked and cannot use the model; none of them is queued then.
        """
        with self._changed:
            if self._forked:
                self.engine.reset_after_fork()
                self._forked = False
        for scheduled in requests:
            self.engine.check(scheduled.request)
        with self._changed:
            self._check_thread()
            self._waiting.extend(requests)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="nad-engine", daemon=True)
                self._thread.start()
                _STARTED.add(self)
            self._changed.notify()

    def check_health(self) -> None:
        """Check that the engine's thread and the engine work; any thread may call this.

        Raises:
            GenerationError: The thread has ended by an error, or the engine cannot work any more.
        """
        with self._changed:
            self._check_thread()
        self.engine.check_health()

    def _check_thread(self) -> None:
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Cancel every request and wait for the thread to end, at most half a minute; later requests restart it."""
        with self._changed:
            thread, self._stopping = self._thread, True
            prefilling = () if self._prefilling is None else (self._prefilling,)
            for scheduled in (*self._waiting, *prefilling, *self._active):
                scheduled.cancellation.cancel()
            self._changed.notify()
        if thread is not None:
            thread.join(_EXIT_SECONDS)
        self._stopping = False

    # --- the engine's thread ---

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            self._end_by(error)
            raise

    def _end_by(self, error: BaseException) -> None:
        """Fail every request, now and later, since an error outside of any request leaves no known batch."""
        what = f"{type(error).__name__}: {error}"
        msg = f"the thread that runs {self.engine.name} has ended by an error, {what}; load the model again"
        failure = GenerationError(msg)
        failure.__cause__ = error
        with self._changed:
            self._error = failure
            prefilling = () if self._prefilling is None else (self._prefilling,)
            unfinished = (*self._waiting, *prefilling, *self._active)
            self._waiting.clear()
            self._active, self._prefilling = [], None
        for scheduled in unfinished:
            if not scheduled.future.done():
                scheduled.future.set_exception(failure)

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._prefilling or self._active):
                    if self._stopping or (not self._changed.wait(_IDLE_SECONDS) and not self._waiting):
                        self._thread = None
                        return
            # 1. cancelled requests leave the queue and the batch
            self._fail_cancelled()
            # 2. waiting ones are read, and enter the batch once nothing of their prompt is left
            self._admit()
            # 3. the batch grows by a chunk or less
            if self._active:
                self._advance()

    def _fail_cancelled(self) -> None:
        with self._changed:
            cancelled = [waiting for waiting in self._waiting if waiting.cancellation.cancelled]
            for scheduled in cancelled:
                self._waiting.remove(scheduled)
        cancelled += [active for active in self._active if active.cancellation.cancelled]
        if self._prefilling is not None and self._prefilling.cancellation.cancelled:
            cancelled.append(self._prefilling)
        for scheduled in cancelled:
            self._fail(scheduled, scheduled.cancellation.error())

    def _admit(self) -> None:
        """Read prompts for which there is room, in order of arrival, until the budget of one round is spent."""
        budget = _PREFILL_BUDGET
        while budget > 0:
            scheduled = self._prefilling or self._next_waiting()
            if scheduled is None:
                return
            try:
                if scheduled.prefill is None:
                    scheduled.started = time.perf_counter()
                    scheduled.prefill = self.engine.prefill(scheduled.request)
                budget -= scheduled.prefill.advance()
                if not scheduled.prefill.tokens_left:
                    scheduled.generation = self.engine.join(scheduled.prefill)
            except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the caller who waits for it
                self._fail(scheduled, _as_generation_error(error))
                continue
            if scheduled.generation is not None:
                with self._changed:
                    self._prefilling = scheduled.prefill = None
                    self._active.append(scheduled)

    def _next_waiting(self) -> ScheduledRequest | None:
        """Take the next request from the queue, or None if there is none or no room for it."""
        with self._changed:
            if not self._waiting:
                return None
            rows = self.engine.rows + self._waiting[0].request.sampling.n
            joins = self.share_batches and rows <= self.max_rows and self.engine.can_join()
            if self._active and not joins:
                return None
            self._prefilling = self._waiting.popleft()
            return self._prefilling

    def _advance(self) -> None:
        # 1. the next boundary: the end of a chunk, or sooner if an observer wants to look sooner
        limits = []
        for scheduled in list(self._active):
            generation, chunk_size = scheduled.generation, scheduled.request.chunk_size
            assert generation is not None
            to_boundary = chunk_size - generation.tokens % chunk_size
            try:
                limits.append(min(to_boundary, max(1, scheduled.observer.max_step(generation))))
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(scheduled, error)
        if not limits:
            return
        # 2. all rows together
        self.steps += 1
        before = {scheduled: scheduled.generation.tokens for scheduled in self._active if scheduled.generation}
        try:
            self.engine.step(min(limits))
        except Exception as error:  # noqa: BLE001 - as above
            failure = _as_generation_error(error)
            for scheduled in list(self._active):
                self._fail(scheduled, failure)
            return
        # 3. every observer whose candidates have grown; an engine with its own queue may keep some generations waiting
        for scheduled in list(self._active):
            generation = scheduled.generation
            assert generation is not None
            if generation.tokens > before[scheduled] or generation.error is not None or not generation.live:
                self._observe(scheduled)

    def _observe(self, scheduled: ScheduledRequest) -> None:
        """Show a request to its observer, drop the candidates that the observer names, and finish what has ended."""
        generation = scheduled.generation
        assert generation is not None
        if generation.error is not None:
            self._fail(scheduled, _as_generation_error(generation.error))
            return
        try:
            ended = not generation.live or generation.tokens % scheduled.request.chunk_size == 0
            drop = scheduled.observer.after_step(generation, chunk_ended=ended)
            if drop:
                self.engine.drop(generation, drop)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(scheduled, error)
            return
        if generation.live:
            return
        try:
            result = GenerationResult(
                group=generation.group(),
                generated=generation.generated,
                queued=scheduled.started - scheduled.submitted,
                prefill=generation.prefill_seconds,
                cached_tokens=generation.cached_tokens,
                prompt_tokens=generation.prompt_tokens,
                decode=time.perf_counter() - scheduled.started - generation.prefill_seconds,
            )
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(scheduled, _as_generation_error(error))
            return
        self.engine.release(generation)
        with self._changed:  # `stop` must find a request with further waves in one list or the other
            self._active.remove(scheduled)
            if scheduled.finish_wave(result):
                self._waiting.append(scheduled)

    def _fail(self, scheduled: ScheduledRequest, error: BaseException) -> None:
        with self._changed:
            if scheduled is self._prefilling:
                self._prefilling = scheduled.prefill = None
            if scheduled in self._active:
                self._active.remove(scheduled)
        if scheduled.generation is not None:
            self.engine.release(scheduled.generation)
        scheduled.future.set_exception(error)


@atexit.register
def _stop_all() -> None:
    for scheduler in list(_STARTED):
        scheduler.stop()


def _as_generation_error(error: BaseException) -> BaseException:
    """Return an error of the library as it is, and any other as the cause of a GenerationError."""
    if isinstance(error, NADError):
        return error
    message = str(error).strip().splitlines() or [type(error).__name__]
    wrapped = GenerationError(f"the model failed while generating: {type(error).__name__}: {message[0]}")
    wrapped.__cause__ = error
    return wrapped
