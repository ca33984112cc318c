"""Generate for a request: it is admitted in its turn, and cancelled when its client no longer waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request

from nad_agents.events import DecodingEvent, Finished, TextDelta
from nad_agents.pending import PendingRequest, submit_in_thread
from nad_agents.rollouts import Rollout, RolloutGroup
from nad_agents.types import Selection
from nad_server.python_verifier import was_checked
from nad_server.request_builder import PreparedRequest

if TYPE_CHECKING:
    from nad_server.state import ServerState

__all__ = ["RequestOutput", "client_of", "generate", "generate_events", "generate_watched"]


@dataclass(frozen=True)
class RequestOutput:
    """The result of a request.

    Attributes:
        prepared: The request.
        selection: The ranking with its evidence.
        group: The candidates with their tokens.
    """

    prepared: PreparedRequest
    selection: Selection
    group: RolloutGroup

    @property
    def chosen(self) -> list[Rollout]:
        """The candidates that become the choices of the response: the winner, then the others by rank."""
        winner = self.selection.winner
        order = [winner, *(i for i in self.selection.ranking if i != winner)]
        return [self.group.rollouts[i] for i in order[: self.prepared.num_choices]]


def client_of(request: Request) -> str:
    """Return the client that sent a request, as the queue tells clients apart: by API key and address."""
    host = request.client.host if request.client else ""
    return f"{request.headers.get('authorization', '')}@{host}"


async def generate(state: ServerState, prepared: PreparedRequest, client: str) -> RequestOutput:
    """Generate the candidates of a request and choose among them.

    Args:
        state: The server's state.
        prepared: The request.
        client: The client that sent it, from `client_of`.

    Raises:
        APIError: The queue is full, or the server shuts down.
        NADError: See `NeuronAgreementDecoder.decode`.
    """
    async for event in generate_events(state, prepared, client):
        if isinstance(event, RequestOutput):
            return event
    raise AssertionError("the last event is the output")


async def generate_events(
    state: ServerState, prepared: PreparedRequest, client: str, *, stream_text: bool = False
) -> AsyncGenerator[TextDelta | RequestOutput]:
    """Yield the result of a request, and before it the winner's text while it is generated if that is possible.

    Args:
        state: The server's state.
        prepared: The request.
        client: The client that sent it, from `client_of`.
        stream_text: Whether text may come before the result; see `PreparedRequest.can_stream_text`.

    Raises:
        APIError: See `generate`.
        NADError: See `generate`.
    """
    stream_text = stream_text and prepared.can_stream_text
    async with _admitted(state, prepared, client, streaming=stream_text) as pending:
        if stream_text:
            async for event in pending.aevents():
                if isinstance(event, TextDelta):
                    yield event
                elif isinstance(event, Finished):
                    selection = event.selection
        else:
            selection = await pending.aresult()
        output = RequestOutput(prepared, selection, pending.outcome().group)
    _count(state, selection)
    yield output


async def generate_watched(
    state: ServerState, prepared: PreparedRequest, client: str
) -> AsyncGenerator[DecodingEvent | None]:
    """Yield None when a request is admitted, and then everything that happens to its candidates.

    Args:
        state: The server's state.
        prepared: The request.
        client: The client that sent it, from `client_of`.

    Raises:
        APIError: See `generate`.
        NADError: See `generate`.
    """
    async with _admitted(state, prepared, client, streaming=True, watch=True) as pending:
        yield None
        async for event in pending.aevents():
            if isinstance(event, Finished):
                _count(state, event.selection)
            yield event


@asynccontextmanager
async def _admitted(
    state: ServerState, prepared: PreparedRequest, client: str, *, streaming: bool, watch: bool = False
) -> AsyncIterator[PendingRequest]:
    """Submit a request when it is admitted, and cancel it when the block ends; its rows are freed as candidates end."""
    async with state.admission.place(client, prepared.sampling.n) as keep_rows:
        on_rows_freed = _called_on_loop(keep_rows)
        pending = await _submit(state, prepared, streaming=streaming, watch=watch, on_rows_freed=on_rows_freed)
        try:
            yield pending
        finally:
            pending.cancel()


def _called_on_loop(function: Callable[[int], None]) -> Callable[[int], None]:
    """Make a function callable from other threads; calls after the end of the event loop are dropped."""
    loop = asyncio.get_running_loop()

    def call(value: int) -> None:
        # an abandoned request may outlive its loop
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
    """Submit a request from another thread, since tokenizing takes a while; withdraw it if the client leaves."""
    chat = prepared.chat

    def submit() -> PendingRequest:
        return state.decoder.submit(
            [chat.prompt],
            sampling=prepared.sampling,
            config=prepared.config,
            verifier=chat.verifier,
            raw=chat.raw,
            tools=chat.tools,
            chat_template_kwargs=chat.chat_template_kwargs,
            logits_processors=chat.logits_processors,
            visible_tokens=chat.visible_tokens,
            on_rows_freed=on_rows_freed,
            streaming=streaming,
            watch=watch,
        )[0]

    return await submit_in_thread(submit, state.threads)


def _count(state: ServerState, selection: Selection) -> None:
    # an answer that is accepted only because it has no Python has passed no check
    verified = selection.verified if was_checked(selection.best.verdict) else None
    state.metrics.count_selection(selection.selector, selection.usage, verified=verified)
