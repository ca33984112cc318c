"""Generate candidates in waves until a rule decides that there are enough, to save unnecessary candidates.

Each wave is a separate request to the scheduler, so other requests can use its rows while the rule decides. The waves
share the prompt through the engine's prefix cache, and their candidates are the same as those of one batch.
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
    """A request that is generated in waves; it has the attributes of `ScheduledRequest`.

    Args:
        waves: The waves (see `GenerationRequest.split`).
        observer: Observer of all waves.
        cancellation: Ends the request early.
        rule: Rule that is applied after each wave but the last, on the request's own thread.
        submit: Function that queues requests with the scheduler.
        on_enough: Function that is called on the same thread if waves are left out.

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
        """Start waiting for the first wave, which must already be queued."""
        threading.Thread(target=self._run, name="nad-waves", daemon=True).start()

    def check_process(self) -> None:
        """Check that the caller is in the process in which the request runs; see `ScheduledRequest`."""
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
