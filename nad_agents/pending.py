"""One prompt on its way through engine, selector and verifier."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Generator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol, TypeVar

from nad_agents.engine.base import Generation, GenerationRequest
from nad_agents.engine.scheduler import Cancellation, GenerationResult, Ticket, Waves
from nad_agents.events import DecodingEvent, Finished, Progress, Pruned, Ranking, TextDelta, Verified, WinnerChosen
from nad_agents.exceptions import GenerationCancelledError
from nad_agents.neurons.activated_sets import ComparisonConfig
from nad_agents.observer import CandidateTexts, Snapshot, stable_prefix_length
from nad_agents.pruning import PruningPolicy
from nad_agents.selection import describe_candidates, rank_rollouts, token_usage
from nad_agents.selectors.base import Selector
from nad_agents.types import Selection, Timings, VerificationConfig
from nad_agents.verification import Verdict, Verifier, walk_ranking

__all__ = ["PendingRequest", "submit_in_thread"]


_PROGRESS_TOKENS = 8


@dataclass(frozen=True)
class _SnapshotTaken:
    """In the queue: the latest snapshot is to be compared. Older ones are not kept, so that none pile up."""


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
        on_rows_freed: called on the engine's thread with how many candidates still generate, whenever some have ended.
        streaming: whether events are collected.
        watch: whether these tell of every candidate, and of the selection while it is made.
        cancellation: ends the request early, at its deadline or when the caller cancels it or leaves.
    """

    request: GenerationRequest
    selector: Selector
    comparison: ComparisonConfig
    policy: PruningPolicy
    verifier: Verifier | None
    verification: VerificationConfig
    model: str
    on_progress: Callable[[Progress], None] | None = None
    on_rows_freed: Callable[[int], None] | None = None
    streaming: bool = False
    watch: bool = False
    cancellation: Cancellation = field(default_factory=Cancellation)
    _ticket: Ticket | Waves | None = None
    _events: queue.SimpleQueue[DecodingEvent | _SnapshotTaken | None] = field(default_factory=queue.SimpleQueue)
    _wake: Callable[[], None] | None = None
    _winner: int | None = None
    _sent: int = 0
    _live: int = 0
    _generated: dict[int, int] = field(default_factory=dict)  # by wave
    _candidates: CandidateTexts | None = None
    _snapshot: Snapshot | None = None

    def __post_init__(self) -> None:
        """Follow every candidate where the caller watches."""
        self._live = self.request.sampling.n
        if self.watch:
            self._candidates = CandidateTexts(self.request.sampling.stop)

    def attach(self, ticket: Ticket | Waves) -> None:
        """Remember the ticket that the scheduler gave."""
        self._ticket = ticket
        ticket.future.add_done_callback(lambda _: self._events.put(None))

    def cancel(self) -> None:
        """Stop generating within a chunk, and checking before the next check; without effect on a finished request."""
        self.cancellation.request()

    @contextlib.contextmanager
    def _cancelled_when_left(self) -> Iterator[None]:
        """Cancel the request when its caller leaves the block early, by an exception or by closing a generator."""
        try:
            yield
        except BaseException:
            self.cancel()
            raise

    def outcome(self) -> GenerationResult:
        """Wait for the candidates themselves, unranked; see `result` for what is raised."""
        assert self._ticket is not None
        with self._cancelled_when_left():
            return self._ticket.future.result()

    def result(self) -> Selection:
        """Wait for the candidates, then select and verify on the caller's thread.

        Raises:
            GenerationTimeoutError: The deadline passed.
            GenerationCancelledError: The request was cancelled.
            NADError: See `NeuronAgreementDecoder.decode`.
        """
        with self._cancelled_when_left():
            return self._select(self.outcome())

    async def aresult(self) -> Selection:
        """`result` without blocking the event loop; cancelling the task stops the generation within a chunk."""
        assert self._ticket is not None
        with self._cancelled_when_left():
            outcome = await asyncio.wrap_future(self._ticket.future)
            return await asyncio.to_thread(self._select, outcome)

    def events(self) -> Generator[DecodingEvent, None, None]:
        """What happens, as it happens; errors are raised where they occur. The request must be a streaming one.

        Closing the generator stops the generation within a chunk.
        """
        with self._cancelled_when_left():
            yield from self._arriving()
            selection = (yield from self._watched_selection()) if self.watch else self.result()
            yield from self._closing_events(selection)

    def _watched_selection(self) -> Generator[DecodingEvent, None, Selection]:
        """Select on another thread, so that verdicts are heard as they come."""
        pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nad-select")
        try:
            selecting = pool.submit(self.result)
            selecting.add_done_callback(lambda _: self._events.put(None))
            yield from self._arriving()
        finally:
            pool.shutdown(wait=False)
        return selecting.result()

    async def aevents(self) -> AsyncGenerator[DecodingEvent, None]:
        """`events` without blocking the event loop."""
        with self._cancelled_when_left():
            async with contextlib.aclosing(self._aevents()) as events:
                async for event in events:
                    yield event

    async def _aevents(self) -> AsyncGenerator[DecodingEvent, None]:
        assert self._ticket is not None
        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop may have closed under an abandoned caller
                loop.call_soon_threadsafe(arrived.set)

        self._wake = wake
        self._ticket.future.add_done_callback(lambda _: wake())
        async for event in self._aarriving(arrived):
            yield event
        selecting = asyncio.ensure_future(self.aresult())
        selecting.add_done_callback(lambda _: self._end_of_events())
        try:
            async for event in self._aarriving(arrived):
                yield event
            selection = await selecting
        finally:
            selecting.cancel()
        for event in self._closing_events(selection):
            yield event

    def _end_of_events(self) -> None:
        self._events.put(None)
        if self._wake is not None:
            self._wake()

    def _arriving(self) -> Iterator[DecodingEvent]:
        """Events up to the next end of them."""
        while (event := self._events.get()) is not None:
            if not isinstance(event, _SnapshotTaken):
                yield event
            elif (snapshot := self._take_snapshot()) is not None:
                yield snapshot.compare()

    async def _aarriving(self, arrived: asyncio.Event) -> AsyncIterator[DecodingEvent]:
        """The same, woken by an event of the loop."""
        while True:
            arrived.clear()
            while not self._events.empty():
                event = self._events.get_nowait()
                if event is None:
                    return
                if not isinstance(event, _SnapshotTaken):
                    yield event
                elif (snapshot := self._take_snapshot()) is not None:
                    yield await asyncio.to_thread(snapshot.compare)
            await arrived.wait()

    def _take_snapshot(self) -> Snapshot | None:
        snapshot, self._snapshot = self._snapshot, None
        return snapshot

    def max_step(self, generation: Generation) -> int:  # noqa: ARG002 - the observer's signature
        """A streaming caller gets the chosen candidate token by token; who watches hears of growth between chunks."""
        if self.streaming and self._winner is not None:
            return 1
        watched = self.streaming or self.on_progress is not None
        return min(_PROGRESS_TOKENS, self.request.chunk_size) if watched else self.request.chunk_size

    def after_step(self, generation: Generation, *, chunk_ended: bool) -> Collection[int]:
        """Report progress, prune at the end of a chunk, send the text of a decided winner."""
        drop: Collection[int] = ()
        group = cache(generation.group)
        if chunk_ended:
            drop = self.policy.after_chunk(generation.live, group)
            decision = self.policy.decision
            one_left = self.policy.final and decision is not None and len(decision.keep) == 1
            if decision is not None and one_left and self.verifier is None and self._winner is None:
                self._winner = decision.keep[0]
                self._send(WinnerChosen(self._winner))
        live = tuple(i for i in generation.live if i not in drop)
        if len(live) < self._live:
            self._live = len(live)
            if self.on_rows_freed is not None:
                self.on_rows_freed(len(live))
        growth = self._candidates.growth(generation, drop) if self._candidates is not None else ()
        self._generated[generation.request.first_candidate] = generation.generated
        progress = Progress(generation.tokens, live, sum(self._generated.values()), growth)
        if self.on_progress is not None:
            self.on_progress(progress)
        self._send(progress)
        if self.watch and drop and self.policy.decision is not None:
            self._send(Pruned(tuple(drop), generation.tokens, self.policy.decision.ranking))
        if self.watch and self.streaming and chunk_ended and self.request.recording is not None:
            self._snapshot = Snapshot(group(), generation.tokens, self.comparison)
            self._send(_SnapshotTaken())
        if self.streaming and self._winner is not None:
            self._send_text(generation.text(self._winner), final=not live)
        return drop

    def _send(self, event: DecodingEvent | _SnapshotTaken) -> None:
        if self.streaming:
            self._events.put(event)
            if self._wake is not None:
                self._wake()

    def _send_text(self, text: str, *, final: bool) -> None:
        """Send what is certain: not half a character, not what may become a stop string."""
        end = len(text) if final else stable_prefix_length(text, self.request.sampling.stop)
        if end > self._sent:
            self._send(TextDelta(text[self._sent : end]))
            self._sent = end

    def _closing_events(self, selection: Selection) -> Iterator[DecodingEvent]:
        if self._winner is None:
            yield WinnerChosen(selection.winner)
        if len(selection.text) > self._sent:
            yield TextDelta(selection.text[self._sent :])
        yield Finished(selection)

    def _select(self, outcome: GenerationResult) -> Selection:
        """Rank, verify down the ranking, and put the evidence together."""
        group, recorded = outcome.group, self.request.recording is not None
        # 1. rank
        started = time.perf_counter()
        ranked = rank_rollouts(group, self.selector, self.comparison, self.policy.decision)
        selecting = time.perf_counter() - started
        # 2. verify; a dropped candidate has no whole answer to check
        started = time.perf_counter()
        winner, verified, verdicts = ranked.ranking[0], None, {}
        whole = [i for i in ranked.ranking if group.rollouts[i].finish_reason != "pruned"]
        if self.watch:
            to_check = tuple(whole[: self.verification.max_checks]) if self.verifier is not None else ()
            self._send(Ranking(ranked.ranking, tuple(map(float, ranked.scores)), to_check))
        if self.verifier is not None:
            try:
                walk = walk_ranking(
                    whole,
                    [rollout.text for rollout in group.rollouts],
                    self.verifier,
                    prompt=self.request.prompt,
                    parallel=self.verification.parallel,
                    max_checks=self.verification.max_checks,
                    max_seconds=self.verification.max_seconds,
                    on_failure=self.verification.on_failure,
                    on_verdict=self._tell_verdict if self.watch else None,
                    cancelled=lambda: bool(self.cancellation),
                )
            except GenerationCancelledError as error:
                raise self.cancellation.error() from error
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

    def _tell_verdict(self, candidate: int, verdict: Verdict) -> None:
        self._send(Verified(candidate, verdict.to_dict()))


class _Cancellable(Protocol):
    def cancel(self) -> None: ...


C = TypeVar("C", bound=_Cancellable)


async def submit_in_thread(submit: Callable[[], C], executor: Executor | None = None) -> C:
    """Call `submit` on another thread, since loading a model or compiling a grammar takes a while.

    A task that is cancelled meanwhile cancels what was submitted as soon as it exists.

    Args:
        submit: Returns a `PendingRequest`, or anything else with a `cancel` method.
        executor: Threads to call it on; None takes the event loop's own.
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
