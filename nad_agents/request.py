"""One prompt on its way through engine, selector and verifier."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

from nad_agents.activated_sets import ComparisonConfig
from nad_agents.engine.base import Generation, GenerationRequest
from nad_agents.engine.scheduler import Outcome, Ticket
from nad_agents.events import DecodingEvent, Finished, Progress, TextDelta, WinnerChosen
from nad_agents.pruning import PruningPolicy
from nad_agents.selection import describe_candidates, rank_rollouts, token_usage
from nad_agents.selectors.base import Selector
from nad_agents.types import Selection, Timings, VerificationConfig
from nad_agents.verification import Verifier, walk_ranking

__all__ = ["PendingRequest"]

_PROGRESS_TOKENS = 8
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(eq=False)
class PendingRequest:
    """A submitted prompt; an observer for the scheduler, a handle for the caller.

    Attributes:
        request: what the engine was asked.
        selector: ranks finished candidates.
        comparison: how it compares them.
        policy: drops candidates at chunk ends.
        verifier: judges answers in rank order.
        verification: how the ranking is walked.
        model: name of the model.
        on_progress: called on the engine's thread.
        streaming: whether events are collected.
    """

    request: GenerationRequest
    selector: Selector
    comparison: ComparisonConfig
    policy: PruningPolicy
    verifier: Verifier | None
    verification: VerificationConfig
    model: str
    on_progress: Callable[[Progress], None] | None = None
    streaming: bool = False
    _ticket: Ticket | None = None
    _events: queue.SimpleQueue[DecodingEvent | None] = field(default_factory=queue.SimpleQueue)
    _wake: Callable[[], None] | None = None
    _winner: int | None = None
    _sent: int = 0

    def attach(self, ticket: Ticket) -> None:
        """Remember the ticket that the scheduler gave."""
        self._ticket = ticket
        ticket.future.add_done_callback(lambda _: self._events.put(None))

    def cancel(self) -> None:
        """Stop generating within a chunk; without effect on a finished request."""
        assert self._ticket is not None
        self._ticket.cancel()

    def outcome(self) -> Outcome:
        """Wait for the candidates themselves, unranked."""
        assert self._ticket is not None
        return self._ticket.future.result()

    def result(self) -> Selection:
        """Wait for the candidates, then select and verify on the caller's thread."""
        return self._select(self.outcome())

    async def aresult(self) -> Selection:
        """`result` without blocking the event loop."""
        assert self._ticket is not None
        outcome = await asyncio.wrap_future(_shielded(self._ticket))
        return await asyncio.to_thread(self._select, outcome)

    def events(self) -> Iterator[DecodingEvent]:
        """What happens, as it happens; errors are raised where they occur."""
        while (event := self._events.get()) is not None:
            yield event
        selection = self.result()
        yield from self._closing_events(selection)

    async def aevents(self) -> AsyncIterator[DecodingEvent]:
        """`events` without blocking the event loop."""
        assert self._ticket is not None
        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop may have closed under an abandoned caller
                loop.call_soon_threadsafe(arrived.set)

        self._wake = wake
        self._ticket.future.add_done_callback(lambda _: wake())
        while True:
            arrived.clear()
            ended = False
            while not self._events.empty():
                event = self._events.get_nowait()
                if event is None:
                    ended = True
                    break
                yield event
            if ended:
                break
            await arrived.wait()
        selection = await self.aresult()
        for event in self._closing_events(selection):
            yield event

    def max_step(self, generation: Generation) -> int:  # noqa: ARG002 - the observer's signature
        """A streaming caller gets the chosen candidate token by token; who watches hears of growth between chunks."""
        if self.streaming and self._winner is not None:
            return 1
        watched = self.streaming or self.on_progress is not None
        return min(_PROGRESS_TOKENS, self.request.chunk_size) if watched else self.request.chunk_size

    def after_step(self, generation: Generation, *, chunk_ended: bool) -> Collection[int]:
        """Report progress, prune at the end of a chunk, send the text of a decided winner."""
        drop: Collection[int] = ()
        if chunk_ended:
            drop = self.policy.after_chunk(generation.live, generation.group)
            decision = self.policy.decision
            one_left = self.policy.final and decision is not None and len(decision.keep) == 1
            if decision is not None and one_left and self.verifier is None and self._winner is None:
                self._winner = decision.keep[0]
                self._send(WinnerChosen(self._winner))
        live = tuple(i for i in generation.live if i not in drop)
        progress = Progress(generation.tokens, live, generation.generated)
        if self.on_progress is not None:
            self.on_progress(progress)
        self._send(progress)
        if self.streaming and self._winner is not None:
            self._send_text(generation.text(self._winner), final=not live)
        return drop

    def _send(self, event: DecodingEvent) -> None:
        if self.streaming:
            self._events.put(event)
            if self._wake is not None:
                self._wake()

    def _send_text(self, text: str, *, final: bool) -> None:
        """Send what is certain: not half a character, not what may become a stop string."""
        end = len(text)
        if not final:
            text = text.rstrip(_REPLACEMENT)
            end = len(text) - max((_overlap(text, stop) for stop in self.request.sampling.stop), default=0)
        if end > self._sent:
            self._send(TextDelta(text[self._sent : end]))
            self._sent = end

    def _closing_events(self, selection: Selection) -> Iterator[DecodingEvent]:
        if self._winner is None:
            yield WinnerChosen(selection.winner)
        if len(selection.text) > self._sent:
            yield TextDelta(selection.text[self._sent :])
        yield Finished(selection)

    def _select(self, outcome: Outcome) -> Selection:
        """Rank, verify down the ranking, and put the evidence together."""
        group, recorded = outcome.group, self.request.recording is not None
        # 1. rank
        started = time.perf_counter()
        ranked = rank_rollouts(group, self.selector, self.comparison, self.policy.decision)
        selecting = time.perf_counter() - started
        # 2. verify; a dropped candidate has no whole answer to check
        started = time.perf_counter()
        winner, verified, verdicts = ranked.ranking[0], None, {}
        if self.verifier is not None:
            walk = walk_ranking(
                [i for i in ranked.ranking if group.rollouts[i].finish_reason != "pruned"],
                [rollout.text for rollout in group.rollouts],
                self.verifier,
                prompt=self.request.prompt,
                parallel=self.verification.parallel,
                max_checks=self.verification.max_checks,
                max_seconds=self.verification.max_seconds,
                on_failure=self.verification.on_failure,
            )
            winner, verified = walk.winner, walk.passed
            verdicts = {i: verdict.to_dict() for i, verdict in walk.verdicts.items()}
        verifying = time.perf_counter() - started
        # 3. evidence
        candidates, matrix = describe_candidates(group, ranked, verdicts, recorded=recorded)
        return Selection(
            text=group.rollouts[winner].text,
            winner=winner,
            ranking=ranked.ranking,
            candidates=candidates,
            selector=self.selector.name,
            seed=self.request.seed,
            similarity_matrix=matrix,
            usage=token_usage(group, len(self.request.prompt_ids), winner),
            timings=Timings(
                queued=outcome.queued,
                prefill=outcome.prefill,
                decode=outcome.decode,
                select=selecting,
                verify=verifying,
            ),
            verified=verified,
            model=self.model,
            details=ranked.details,
        )


def _shielded(ticket: Ticket) -> Future[Outcome]:
    """A future of the caller's own, so that cancelling it leaves the scheduler's alone."""
    mine: Future[Outcome] = Future()

    def copy(done: Future[Outcome]) -> None:
        if not mine.set_running_or_notify_cancel():
            return
        error = done.exception()
        if error is not None:
            mine.set_exception(error)
        else:
            mine.set_result(done.result())

    ticket.future.add_done_callback(copy)
    return mine


def _overlap(text: str, stop: str) -> int:
    """Length of the longest proper prefix of `stop` that ends `text`."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
