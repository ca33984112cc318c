"""More candidates than fit into memory at once: generated in waves, one after the other, as one outcome."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.scheduler import Outcome, Ticket
from nad_agents.exceptions import NADError
from nad_agents.rollouts import RolloutGroup

__all__ = ["Waves", "split_into_waves"]


def split_into_waves(request: GenerationRequest, wave: int) -> list[GenerationRequest]:
    """Requests for at most `wave` candidates each, which together ask for the same candidates.

    Their logits processors are the given one's, and have to be replaced where they keep a state.
    """
    n = request.sampling.n
    sizes = [min(wave, n - first) for first in range(0, n, wave)]
    return [
        replace(request, sampling=request.sampling.model_copy(update={"n": size}), first_candidate=wave * i)
        for i, size in enumerate(sizes)
    ]


@dataclass(eq=False)
class Waves:
    """A ticket for several requests, each of which is queued when the one before has ended.

    Attributes:
        ticket: the request that is queued or runs.
        later: those after it.
        submit: queues one.
        future: resolves to the outcome of all, or to the error that ended one of them.
    """

    ticket: Ticket
    later: deque[GenerationRequest]
    submit: Callable[[GenerationRequest], Ticket]
    future: Future[Outcome] = field(default_factory=Future)
    _ended: list[Outcome] = field(default_factory=list)
    _cancelled: bool = False

    def __post_init__(self) -> None:
        """Wait for the first one."""
        self.ticket.future.add_done_callback(self._go_on)

    @property
    def cancelled(self) -> bool:
        """Whether the caller has cancelled."""
        return self._cancelled

    def cancel(self) -> None:
        """Stop at the end of the current chunk at the latest; the future then raises GenerationCancelledError."""
        self._cancelled = True
        self.ticket.cancel()

    def _go_on(self, ended: Future[Outcome]) -> None:
        error = ended.exception()
        if error is not None:
            self.future.set_exception(error)
            return
        self._ended.append(ended.result())
        if not self.later:
            self.future.set_result(_together(self._ended))
            return
        try:
            self.ticket = self.submit(self.later.popleft())
        except NADError as failed:
            self.future.set_exception(failed)
            return
        if self._cancelled:
            self.ticket.cancel()
        self.ticket.future.add_done_callback(self._go_on)


def _together(waves: Sequence[Outcome]) -> Outcome:
    first = waves[0]
    rollouts = [rollout for wave in waves for rollout in wave.group.rollouts]
    return Outcome(
        group=RolloutGroup(rollouts, first.group.layout, first.group.prompt),
        generated=sum(wave.generated for wave in waves),
        queued=sum(wave.queued for wave in waves),
        prefill=sum(wave.prefill for wave in waves),
        decode=sum(wave.decode for wave in waves),
    )
