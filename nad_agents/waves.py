"""Candidates in waves, until a rule says that there are enough: what is not needed is not generated.

Each wave is a request of its own to the scheduler, so that its rows go to waiting requests while the rule is asked. The
waves share the prompt by the engine's prefix cache, and their candidates are those that one batch would have had.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.scheduled_request import Cancellation, GenerationResult, Observer, ScheduledRequest, merge_waves
from nad_agents.stopping import StoppingRule

__all__ = ["WavesUntilEnough"]


class WavesUntilEnough:
    """The waves of one request, for whoever waits for all of them; see `ScheduledRequest`, whose attributes it has.

    Args:
        waves: The waves (see `GenerationRequest.split`).
        observer: Follows all of them.
        cancellation: Ends the request early.
        rule: Asked after each wave but the last, on a thread of the request's own.
        submit: Queues requests with the scheduler.
        on_enough: Called on that thread if waves are left out.

    Attributes:
        first: The first wave, which the caller queues before `start`.
        future: Resolves to the result of the waves that were generated, or to the error that ended one of them.
    """

    def __init__(
        self,
        waves: Sequence[GenerationRequest],
        observer: Observer,
        cancellation: Cancellation,
        *,
        rule: StoppingRule,
        submit: Callable[[Sequence[ScheduledRequest]], None],
        on_enough: Callable[[], None],
    ) -> None:
        self.cancellation = cancellation
        self.future: Future[GenerationResult] = Future()
        self.future.set_running_or_notify_cancel()
        self.first = ScheduledRequest(waves[:1], observer, cancellation)
        self._later = waves[1:]
        self._observer = observer
        self._rule = rule
        self._submit = submit
        self._on_enough = on_enough

    def start(self) -> None:
        """Begin to wait for the first wave, which has been queued."""
        threading.Thread(target=self._run, name="nad-waves", daemon=True).start()

    def check_process(self) -> None:
        """Check that whoever is about to wait is in the process in which the request runs; see `ScheduledRequest`."""
        if not self.future.done():
            self.first.check_process()

    def _run(self) -> None:
        try:
            self.future.set_result(self._all_waves())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to the caller who waits for it
            self.future.set_exception(error)

    def _all_waves(self) -> GenerationResult:
        finished = [self.first.future.result()]
        for wave in self._later:
            so_far = merge_waves(finished)
            if self._rule.enough(so_far.group):
                self._on_enough()
                return so_far
            if self.cancellation.cancelled:
                raise self.cancellation.error()
            scheduled = ScheduledRequest([wave], self._observer, self.cancellation)
            self._submit([scheduled])
            finished.append(scheduled.future.result())
        return merge_waves(finished)
