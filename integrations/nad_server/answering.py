"""Running questions on the decoder: in their turn, stopped when nobody waits for the answer any more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import Request

from nad_agents.events import DecodingEvent, Finished, TextDelta
from nad_agents.request import PendingRequest
from nad_agents.rollouts import Rollout, RolloutGroup
from nad_agents.types import Selection
from nad_server.admission import closing
from nad_server.questions import Question

if TYPE_CHECKING:
    from nad_server.service import Service

__all__ = [
    "Answer",
    "ClientGoneError",
    "answer",
    "answer_events",
    "client_of",
    "watched_events",
    "while_connected",
    "with_silences",
]

T = TypeVar("T")


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True)
class Answer:
    """A decided question.

    Attributes:
        question: what was asked.
        selection: the ranking with its evidence.
        group: the candidates with their tokens.
    """

    question: Question
    selection: Selection
    group: RolloutGroup

    @property
    def chosen(self) -> list[Rollout]:
        """The answers to return: the winner, then the next in rank."""
        winner = self.selection.winner
        order = [winner, *(i for i in self.selection.ranking if i != winner)]
        return [self.group.rollouts[i] for i in order[: self.question.returned]]

    @property
    def visible_tokens(self) -> Collection[int]:
        """Special tokens that are in the answers' texts."""
        found: Collection[int] = self.question.options.get("visible_tokens", ())
        return found


def client_of(request: Request) -> str:
    """Whose request it is, for the queue's fairness."""
    host = request.client.host if request.client else ""
    return f"{request.headers.get('authorization', '')}@{host}"


async def answer(service: Service, question: Question, client: str) -> Answer:
    """Answer a question.

    Raises:
        APIError: the queue is full, or the server shuts down.
        NADError: see `NeuronAgreementDecoder.decode`.
    """
    async for event in answer_events(service, question, client):
        if isinstance(event, Answer):
            return event
    raise AssertionError("the events of an answer end with it")


async def answer_events(
    service: Service, question: Question, client: str, *, early: bool = False
) -> AsyncGenerator[TextDelta | Answer]:
    """The answer, which comes last, and before it its text as it is written, where that is possible and asked for.

    Raises:
        APIError: see `answer`.
        NADError: see `answer`.
    """
    early = early and question.streams_early
    async with _running(service, question, client, streaming=early) as pending:
        if early:
            async for event in pending.aevents():
                if isinstance(event, TextDelta):
                    yield event
                elif isinstance(event, Finished):
                    selection = event.selection
        else:
            selection = await pending.aresult()
        found = Answer(question, selection, pending.outcome().group)
    service.metrics.selected(selection.selector, selection.usage, verified=selection.verified)
    yield found


async def watched_events(service: Service, question: Question, client: str) -> AsyncGenerator[DecodingEvent | None]:
    """None once the question has its place, then everything that happens to its candidates.

    Raises:
        APIError: see `answer`.
        NADError: see `answer`.
    """
    async with _running(service, question, client, streaming=True, watch=True) as pending:
        yield None
        async for event in pending.aevents():
            if isinstance(event, Finished):
                selection = event.selection
                service.metrics.selected(selection.selector, selection.usage, verified=selection.verified)
            yield event


@asynccontextmanager
async def _running(
    service: Service, question: Question, client: str, *, streaming: bool, watch: bool = False
) -> AsyncIterator[PendingRequest]:
    """A question in its turn; whatever ends the block stops it. Rows go back as its candidates end."""
    async with service.admission.place(client, question.sampling.n) as keep:
        options = {"streaming": streaming, "watch": watch, "on_fewer": _on_loop(keep)}
        pending = await _submit(service, question, options)
        try:
            yield pending
        finally:
            pending.cancel()


def _on_loop(function: Callable[[int], None]) -> Callable[[int], None]:
    """The function, to be called from other threads; dropped where the loop has closed under an abandoned request."""
    loop = asyncio.get_running_loop()

    def call(value: int) -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(function, value)

    return call


async def _submit(service: Service, question: Question, options: Mapping[str, Any]) -> PendingRequest:
    """Queue a question from another thread, since tokenizing takes a while; withdrawn if the caller goes away."""

    def submit() -> PendingRequest:
        return service.decoder.submit(
            [question.prompt],
            sampling=question.sampling,
            config=question.config,
            **question.options,
            **options,
        )[0]

    submitting = asyncio.ensure_future(service.prepare(submit))
    try:
        return await asyncio.shield(submitting)
    except asyncio.CancelledError:
        submitting.add_done_callback(_withdraw)
        raise


def _withdraw(submitting: asyncio.Future[PendingRequest]) -> None:
    if not submitting.cancelled() and submitting.exception() is None:
        submitting.result().cancel()


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of some work, which is cancelled as soon as the client is gone or the server has to stop.

    Raises:
        ClientGoneError: the client left.
        APIError: 503, the server stops.
    """
    service: Service = request.app.state.service
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        with service.until_stopped() as stopped:
            await asyncio.wait(_any_of(task, gone, stopped), return_when=asyncio.FIRST_COMPLETED)
            # what fails in a server that stops fails because it stops
            if task.done() and not (stopped.done() and task.exception()):
                return task.result()
            if stopped.done():
                raise closing()
        raise ClientGoneError
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def with_silences(
    source: AsyncGenerator[T], seconds: float, stopped: asyncio.Future[None]
) -> AsyncGenerator[T | None]:
    """What a source yields, and None whenever it has been silent for so many seconds.

    Raises:
        APIError: 503, the server stops, and the source has not ended.
    """
    step: asyncio.Task[T] | None = None
    try:
        while True:
            step = step or asyncio.create_task(_next(source))
            await asyncio.wait(_any_of(step, stopped), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not step.done():
                if stopped.done():
                    raise closing()
                yield None
                continue
            finished, step = step, None
            try:
                item = finished.result()
            except StopAsyncIteration:
                return
            except Exception as error:
                # what fails in a server that stops fails because it stops
                if stopped.done():
                    raise closing() from error
                raise
            yield item
    finally:
        if step is not None:
            step.cancel()
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
                await step
        await source.aclose()


def _any_of(*futures: asyncio.Future[Any]) -> set[asyncio.Future[Any]]:
    return set(futures)


async def _next(source: AsyncGenerator[T]) -> T:
    return await anext(source)
