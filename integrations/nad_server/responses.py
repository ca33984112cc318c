"""POST /v1/responses: the newer form, with named events; nothing is kept between requests."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from itertools import chain
from typing import Any, Literal

from fastapi import APIRouter, Request
from starlette.responses import Response

from nad_agents.events import TextDelta
from nad_server.errors import ERRORS, APIError, JSONAnswer, answers_with
from nad_server.generate import RequestOutput, client_of, generate, generate_events
from nad_server.logprobs import TokenText, content_token_texts, response_logprobs, token_texts
from nad_server.outputs import FunctionToolCall, GrowingText, ParsedOutput, evidence_of, parsed_output, usage_of
from nad_server.prompt_input import template_messages, template_options
from nad_server.protocol_responses import ResponsesRequest, arguments_of, conversation_of, refuse_several
from nad_server.request_builder import PreparedRequest, build_chat_request
from nad_server.sse import FirstText, ServerSentEvent, event_stream, while_connected
from nad_server.state import ServerState
from nad_server.unsupported_params import refuse_unsupported

__all__ = ["TextItem", "call_events", "call_item", "router"]


router = APIRouter(tags=["OpenAI"])

_PATH = "/v1/responses"

_PLAIN = {"format": {"type": "text"}}


@router.post(_PATH, responses={**answers_with("A response, or a stream of its events."), **ERRORS})
async def responses(request: Request, body: ResponsesRequest) -> Response:
    """Answer an input: the best of N candidates, with the evidence under `nad`."""
    state: ServerState = request.app.state.server
    refuse_unsupported(body)
    refuse_several(body)
    nad = state.options(body.model, body.nad)
    conversation = template_messages(conversation_of(body))
    variables = template_options(state.decoder.loaded.tokenizer, body, tools=bool(body.tools))
    arguments = arguments_of(body) | {"chat_template_kwargs": variables}
    asked = partial(build_chat_request, state, body, nad, conversation, arguments, param="input")
    prepared = await state.prepare(asked)
    response = _Response(state, body)
    if body.stream:
        return event_stream(
            request,
            response.frames(prepared, client_of(request)),
            ping=response.in_progress,
            failed=response.failed,
            done="",
        )
    found = await while_connected(request, generate(state, prepared, client_of(request)))
    return JSONAnswer(response.whole(found))


class _Response:
    """The answer to one request, in OpenAI's form."""

    def __init__(self, state: ServerState, body: ResponsesRequest) -> None:
        self._state = state
        self._body = body
        self._tokenizer = state.decoder.loaded.tokenizer
        self._id = f"resp_{secrets.token_hex(16)}"
        self._created = int(time.time())
        self._events = 0
        self._reasoning = TextItem("reasoning", self._event)
        self._message = TextItem("message", self._event)

    def whole(self, found: RequestOutput, part: ParsedOutput | None = None) -> dict[str, Any]:
        """Everything at once.

        Args:
            found: the answer.
            part: the same taken apart, where that has been done, since calls get new ids each time.
        """
        part = part or self._part(found)
        output = [self._reasoning.whole(part.thinking)] if part.thinking else []
        if part.text or not part.calls:
            output.append(self._message.whole(part.text, self._logprobs(found, part)))
        output += [call_item(call) for call in part.calls]
        usage = usage_of([found])
        cut = part.finish_reason == "length"
        return self._object(
            "incomplete" if cut else "completed",
            output,
            incomplete_details={"reason": "max_output_tokens"} if cut else None,
            usage={
                "input_tokens": usage["prompt_tokens"],
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": usage["completion_tokens"],
                "output_tokens_details": {"reasoning_tokens": self._tokens(part.thinking)},
                "total_tokens": usage["total_tokens"],
            },
            nad=evidence_of(found),
        )

    async def frames(self, prepared: PreparedRequest, client: str) -> AsyncGenerator[str]:
        """Event by event."""
        first, growing = FirstText(self._state, _PATH), GrowingText(prepared.chat.parser)
        yield self._event("response.created", response=self._object("in_progress", []))
        yield self.in_progress()
        early = not self._body.logprobs
        async with aclosing(generate_events(self._state, prepared, client, early=early)) as events:
            async for event in events:
                first.seen()
                if isinstance(event, TextDelta):
                    thinking, text = growing.add(event.text)
                    found: Iterator[str] = chain(self._think(thinking), self._say(text))
                else:
                    found = self._rest(event, growing)
                for frame in found:
                    yield frame

    def in_progress(self) -> ServerSentEvent:
        """Says that candidates are being written."""
        return self._event("response.in_progress", response=self._object("in_progress", []))

    def failed(self, error: APIError) -> ServerSentEvent:
        """The last event of a response that failed."""
        told = {"code": error.code or "server_error", "message": error.message}
        return self._event("response.failed", response=self._object("failed", [], error=told))

    def _rest(self, found: RequestOutput, growing: GrowingText) -> Iterator[str]:
        """What is still to be sent: thinking, the text token by token, the calls, the response as a whole."""
        part, at, sent = self._part(found), 0, growing.sent
        yield from self._think(part.thinking[growing.thought :])
        group: list[TokenText] = []
        for piece in self._pieces(found, part):
            group.append(piece)
            at += len(piece.text)
            if at > sent and piece.text:
                yield from self._say(piece.text[-(at - sent) :], response_logprobs(group))
                group = []
        yield from self._say(part.text[max(at, sent) :])
        response = self.whole(found, part)
        calls = iter(part.calls)
        yield from self._reasoning.end()
        for index, item in enumerate(response["output"]):
            if item["type"] == "message":
                yield from self._message.begin(index)
                yield from self._message.end(self._logprobs(found, part))
            elif item["type"] == "function_call":
                yield from call_events(next(calls), item, index, self._event)
        yield self._event(f"response.{response['status']}", response=response)

    def _logprobs(self, found: RequestOutput, part: ParsedOutput) -> list[dict[str, Any]]:
        """Of the text's tokens, where they are asked for; up to where calls were cut out."""
        return response_logprobs(self._pieces(found, part)) if self._body.logprobs else []

    def _pieces(self, found: RequestOutput, part: ParsedOutput) -> list[TokenText]:
        pieces = token_texts(self._tokenizer, found.chosen[0], found.prepared.chat.visible_tokens)
        return content_token_texts(pieces, part.text, part.thinking)

    def _think(self, text: str) -> Iterator[str]:
        if text:
            yield from self._reasoning.begin(0)
            yield from self._reasoning.grow(text)

    def _say(self, text: str, logprobs: Sequence[dict[str, Any]] = ()) -> Iterator[str]:
        if text:
            yield from self._reasoning.end()
            yield from self._message.begin(int(self._reasoning.begun))
            yield from self._message.grow(text, logprobs if self._body.logprobs else ())

    def _tokens(self, text: str) -> int:
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"]) if text else 0

    def _part(self, found: RequestOutput) -> ParsedOutput:
        return parsed_output(
            found.chosen[0], found.prepared.chat.parser, parallel=self._body.parallel_tool_calls is not False
        )

    def _event(self, kind: str, /, **content: Any) -> ServerSentEvent:
        number, self._events = self._events, self._events + 1
        return ServerSentEvent.of({"type": kind, "sequence_number": number, **content}, kind)

    def _object(self, status: str, output: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        body = self._body
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {},
            "model": body.model,
            "output": output,
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "store": False,
            "temperature": body.temperature,
            "text": body.text.model_dump(by_alias=True, exclude_none=True) if body.text else _PLAIN,
            "tool_choice": arguments_of(body).get("tool_choice", "auto"),
            "tools": [tool.model_dump() for tool in body.tools or ()],
            "top_p": body.top_p,
            "truncation": "disabled",
            "usage": None,
            **more,
        }


Event = Callable[..., ServerSentEvent]
"""Makes an event of its kind and its content."""

_PREFIXES = {"message": "msg", "reasoning": "rs"}

_PARTS = {"message": "output_text", "reasoning": "reasoning_text"}


class TextItem:
    """A message, or the thinking before it: one text, which grows and ends.

    Attributes:
        begun: whether there is any of it.

    Args:
        kind: of item.
        event: see `Event`.
    """

    def __init__(self, kind: Literal["message", "reasoning"], event: Event) -> None:
        self._kind = kind
        self._event = event
        self._id = f"{_PREFIXES[kind]}_{secrets.token_hex(16)}"
        self._text = ""
        self._index = 0
        self._ended = False
        self.begun = False

    def whole(self, text: str, logprobs: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        """The item with its text."""
        head = {"id": self._id, "type": self._kind, "status": "completed"}
        own: dict[str, Any] = {"role": "assistant"} if self._kind == "message" else {"summary": []}
        return {**head, **own, "content": [self._part(text, logprobs)]}

    def begin(self, index: int) -> Iterator[ServerSentEvent]:
        """Its first events, if it has not begun.

        Args:
            index: its place in the output.
        """
        if not self.begun:
            self.begun, self._index = True, index
            item = {**self.whole(""), "status": "in_progress", "content": []}
            yield self._event("response.output_item.added", output_index=index, item=item)
            yield self._event("response.content_part.added", **self._place, part=self._part(""))

    def grow(self, text: str, logprobs: Sequence[dict[str, Any]] = ()) -> Iterator[ServerSentEvent]:
        """The event of more text."""
        self._text += text
        yield self._event(f"response.{_PARTS[self._kind]}.delta", **self._place, delta=text, **self._said(logprobs))

    def end(self, logprobs: Sequence[dict[str, Any]] = ()) -> Iterator[ServerSentEvent]:
        """Its last events, if it has begun and not ended."""
        if self.begun and not self._ended:
            self._ended = True
            item = self.whole(self._text, logprobs)
            told = {"text": self._text, **self._said(logprobs)}
            yield self._event(f"response.{_PARTS[self._kind]}.done", **self._place, **told)
            yield self._event("response.content_part.done", **self._place, part=item["content"][0])
            yield self._event("response.output_item.done", output_index=self._index, item=item)

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self._id, "output_index": self._index, "content_index": 0}

    def _part(self, text: str, logprobs: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        annotations: dict[str, Any] = {"annotations": []} if self._kind == "message" else {}
        return {"type": _PARTS[self._kind], "text": text, **annotations, **self._said(logprobs)}

    def _said(self, logprobs: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {"logprobs": list(logprobs)} if self._kind == "message" else {}


def call_item(call: FunctionToolCall) -> dict[str, Any]:
    """A tool call."""
    head = {"id": f"fc_{call.id.removeprefix('call_')}", "type": "function_call", "status": "completed"}
    return {**head, "call_id": call.id, "name": call.name, "arguments": call.arguments}


def call_events(call: FunctionToolCall, item: dict[str, Any], index: int, event: Event) -> Iterator[ServerSentEvent]:
    """The events of a tool call.

    Args:
        call: what is called.
        item: the same as an item.
        index: its place in the output.
        event: see `Event`.
    """
    place = {"item_id": item["id"], "output_index": index}
    begun = {**item, "status": "in_progress", "arguments": ""}
    yield event("response.output_item.added", output_index=index, item=begun)
    for piece in call.argument_pieces():
        yield event("response.function_call_arguments.delta", **place, delta=piece)
    yield event("response.function_call_arguments.done", **place, name=call.name, arguments=call.arguments)
    yield event("response.output_item.done", output_index=index, item=item)
