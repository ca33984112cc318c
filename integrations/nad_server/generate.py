"""Running questions on the decoder: in their turn, stopped when nobody waits for the answer any more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from starlette.requests import Request

from nad_agents.events import DecodingEvent, Finished, TextDelta
from nad_agents.pending import PendingRequest
from nad_agents.rollouts import Rollout, RolloutGroup
from nad_agents.types import Selection
from nad_server.request_builder import PreparedRequest

if TYPE_CHECKING:
    from nad_server.state import ServerState

__all__ = ["RequestOutput", "client_of", "generate", "generate_events", "generate_watched"]


T = TypeVar("T")


@dataclass(frozen=True)
class RequestOutput:
    """A finished request.

    Attributes:
        prepared: what was asked.
        selection: the ranking with its evidence.
        group: the candidates with their tokens.
    """

    prepared: PreparedRequest
    selection: Selection
    group: RolloutGroup

    @property
    def chosen(self) -> list[Rollout]:
        """The answers to return: the winner, then the next in rank."""
        winner = self.selection.winner
        order = [winner, *(i for i in self.selection.ranking if i != winner)]
        return [self.group.rollouts[i] for i in order[: self.prepared.returned]]


def client_of(request: Request) -> str:
    """Whose request it is, for the queue's fairness."""
    host = request.client.host if request.client else ""
    return f"{request.headers.get('authorization', '')}@{host}"


async def generate(state: ServerState, prepared: PreparedRequest, client: str) -> RequestOutput:
    """Answer a request.

    Raises:
        APIError: the queue is full, or the server shuts down.
        NADError: see `NeuronAgreementDecoder.decode`.
    """
    async for event in generate_events(state, prepared, client):
        if isinstance(event, RequestOutput):
            return event
    raise AssertionError("the events of an answer end with it")


async def generate_events(
    state: ServerState, prepared: PreparedRequest, client: str, *, early: bool = False
) -> AsyncGenerator[TextDelta | RequestOutput]:
    """The answer, which comes last, and before it its text as it is written, where that is possible and asked for.

    Raises:
        APIError: see `answer`.
        NADError: see `answer`.
    """
    early = early and prepared.streams_early
    async with _running(state, prepared, client, streaming=early) as pending:
        if early:
            async for event in pending.aevents():
                if isinstance(event, TextDelta):
                    yield event
                elif isinstance(event, Finished):
                    selection = event.selection
        else:
            selection = await pending.aresult()
        found = RequestOutput(prepared, selection, pending.outcome().group)
    state.metrics.selected(selection.selector, selection.usage, verified=selection.verified)
    yield found


async def generate_watched(
    state: ServerState, prepared: PreparedRequest, client: str
) -> AsyncGenerator[DecodingEvent | None]:
    """None once the question has its place, then everything that happens to its candidates.

    Raises:
        APIError: see `answer`.
        NADError: see `answer`.
    """
    async with _running(state, prepared, client, streaming=True, watch=True) as pending:
        yield None
        async for event in pending.aevents():
            if isinstance(event, Finished):
                selection = event.selection
                state.metrics.selected(selection.selector, selection.usage, verified=selection.verified)
            yield event


@asynccontextmanager
async def _running(
    state: ServerState, prepared: PreparedRequest, client: str, *, streaming: bool, watch: bool = False
) -> AsyncIterator[PendingRequest]:
    """A request in its turn; whatever ends the block stops it. Rows go back as its candidates end."""
    async with state.admission.place(client, prepared.sampling.n) as keep:
        pending = await _submit(state, prepared, streaming=streaming, watch=watch, on_rows_freed=_on_loop(keep))
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


async def _submit(
    state: ServerState,
    prepared: PreparedRequest,
    *,
    streaming: bool,
    watch: bool,
    on_rows_freed: Callable[[int], None],
) -> PendingRequest:
    """Queue a request from another thread, since tokenizing takes a while; withdraw it if the client leaves."""
    chat = prepared.chat

    def submit() -> PendingRequest:
        return state.decoder.submit(
            [chat.prompt],
            sampling=prepared.sampling,
            config=prepared.config,
            verifier=chat.verifier,
            raw=chat.raw,
            tools=chat.tools,
            template_options=chat.template_options,
            logits_processors=chat.logits_processors,
            visible_tokens=chat.visible_tokens,
            on_rows_freed=on_rows_freed,
            streaming=streaming,
            watch=watch,
        )[0]

    submitting = asyncio.ensure_future(state.prepare(submit))
    try:
        return await asyncio.shield(submitting)
    except asyncio.CancelledError:
        submitting.add_done_callback(_withdraw)
        raise


def _withdraw(submitting: asyncio.Future[PendingRequest]) -> None:
    if not submitting.cancelled() and submitting.exception() is None:
        submitting.result().cancel()
