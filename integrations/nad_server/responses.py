"""POST /v1/responses, OpenAI's newer form with named events; the server keeps nothing between requests."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from itertools import chain
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from nad_agents.chat.growing_text import GrowingText
from nad_agents.events import TextDelta
from nad_server.disconnect import while_connected
from nad_server.errors import ERRORS, APIError
from nad_server.generate import RequestOutput, client_of, generate, generate_events
from nad_server.json_response import JSONResponse, json_or_events
from nad_server.logprobs import TokenText, content_token_texts, response_logprobs, token_texts
from nad_server.nad_options import NADOptions
from nad_server.output_items import TextItem, call_events, call_item
from nad_server.outputs import ParsedOutput, evidence_of, parse_output, usage_of
from nad_server.prompt_input import read_chat_template_kwargs, template_messages
from nad_server.protocol import NamedTool
from nad_server.protocol_responses import (
    ResponsesRequest,
    chat_messages,
    chat_response_format,
    refuse_several_choices,
)
from nad_server.request_builder import PreparedRequest, build_chat_request, build_output_spec
from nad_server.response_tools import OfferedTools, offered_tools
from nad_server.sse import ServerSentEvent, event_stream
from nad_server.state import ServerState
from nad_server.unsupported_params import ignored_parameters

__all__ = ["router"]

router = APIRouter(tags=["OpenAI"])
_PATH = "/v1/responses"
_PLAIN_TEXT = {"format": {"type": "text"}}


@router.post(_PATH, responses={**json_or_events("A response, or a stream of its events."), **ERRORS})
async def responses(request: Request, body: ResponsesRequest) -> Response:
    """Answer an input with the best of N candidates; `nad` holds the evidence for the choice."""
    state: ServerState = request.app.state.server
    ignored = ignored_parameters(body)
    refuse_several_choices(body)
    state = state.serving(body.model)
    offered, nad = offered_tools(body.tools or (), body.tool_choice), state.options(body.model, body.nad)
    prepared = await state.run_in_thread(_prepare, state, body, nad, offered, ignored)
    response, client = _Response(state, body, offered), client_of(request)
    if body.stream:
        events = response.stream(prepared, client)
        return event_stream(request, events, ping=response.in_progress, failed=response.failed, done="")
    output = await while_connected(request, generate(state, prepared, client))
    return JSONResponse(response.full(output, response.parsed(output)))


def _prepare(
    state: ServerState, body: ResponsesRequest, nad: NADOptions, offered: OfferedTools, ignored: list[str]
) -> PreparedRequest:
    messages, items = chat_messages(body, offered)
    options, hints = read_chat_template_kwargs(state.decoder.loaded.tokenizer, body, tools=bool(offered.tools))
    output_spec = build_output_spec(
        offered.tools, body.tool_choice, body.parallel_tool_calls, chat_response_format(body), options
    )
    ignored = [*ignored, *hints, *offered.ignored, *items]
    return build_chat_request(
        state, body, nad, template_messages(messages), output_spec, param="input", ignored=ignored
    )


class _Response:
    """The response to one request, whole or as a stream."""

    def __init__(self, state: ServerState, body: ResponsesRequest, offered: OfferedTools) -> None:
        self._state = state
        self._body = body
        self._offered = offered
        self._tokenizer = state.decoder.loaded.tokenizer
        self._id = f"resp_{secrets.token_hex(16)}"
        self._created = int(time.time())
        self._next_number = 0
        self._reasoning = TextItem("reasoning", self._event)
        self._message = TextItem("message", self._event)

    def full(self, output: RequestOutput, parsed: ParsedOutput) -> dict[str, Any]:
        """Return the response as one object.

        Args:
            output: The result of the request.
            parsed: The winner, parsed once, since each parsing gives the calls new ids.
        """
        items = [self._reasoning.full(parsed.thinking)] if parsed.thinking else []
        if parsed.text or not parsed.calls:
            items.append(self._message.full(parsed.text, self._logprobs(output, parsed)))
        items += [call_item(call, self._offered.namespaces.get(call.name)) for call in parsed.calls]
        usage = usage_of([output])
        cut = parsed.finish_reason == "length"
        return self._object(
            "incomplete" if cut else "completed",
            items,
            incomplete_details={"reason": "max_output_tokens"} if cut else None,
            usage={
                "input_tokens": usage["prompt_tokens"],
                "input_tokens_details": usage["prompt_tokens_details"],
                "output_tokens": usage["completion_tokens"],
                "output_tokens_details": {"reasoning_tokens": self._number_of_tokens(parsed.thinking)},
                "total_tokens": usage["total_tokens"],
            },
            nad=evidence_of(output),
        )

    async def stream(self, prepared: PreparedRequest, client: str) -> AsyncGenerator[str]:
        """Yield the response as events: that it was created at once, then text as soon as it is the winner's."""
        timer, growing = self._state.metrics.first_text_timer(_PATH), GrowingText(prepared.chat.parser)
        yield self._event("response.created", response=self._object("in_progress", []))
        yield self.in_progress()
        # log-probabilities are known with the whole answer only
        stream_text = not self._body.logprobs
        async with aclosing(generate_events(self._state, prepared, client, stream_text=stream_text)) as events:
            async for event in events:
                timer.stop()
                if isinstance(event, TextDelta):
                    parsed = growing.add(event.text)
                    new: Iterator[str] = chain(
                        self._grow_reasoning(parsed.thinking), self._grow_message(parsed.content)
                    )
                else:
                    new = self._rest(event, growing)
                for server_sent_event in new:
                    yield server_sent_event

    def in_progress(self) -> ServerSentEvent:
        """Return the event that says that candidates are being generated."""
        return self._event("response.in_progress", response=self._object("in_progress", []))

    def failed(self, error: APIError) -> ServerSentEvent:
        """Return the last event of a response that failed."""
        details = {"code": error.code or "server_error", "message": error.message}
        return self._event("response.failed", response=self._object("failed", [], error=details))

    def parsed(self, output: RequestOutput) -> ParsedOutput:
        """Return the winner as text, thinking and calls."""
        parallel = self._body.parallel_tool_calls is not False
        return parse_output(output.chosen[0], output.prepared.chat.parser, parallel=parallel)

    def _rest(self, output: RequestOutput, growing: GrowingText) -> Iterator[str]:
        """Yield what the stream still lacks: thinking, text token by token, calls and the response as a whole."""
        parsed, position, sent = self.parsed(output), 0, len(growing.sent.content)
        yield from self._grow_reasoning(parsed.thinking[len(growing.sent.thinking) :])
        unsent: list[TokenText] = []
        for token in self._content_tokens(output, parsed):
            unsent.append(token)
            position += len(token.text)
            if position > sent and token.text:
                yield from self._grow_message(token.text[-(position - sent) :], response_logprobs(unsent))
                unsent = []
        yield from self._grow_message(parsed.text[max(position, sent) :])
        response = self.full(output, parsed)
        calls = iter(parsed.calls)
        yield from self._reasoning.end()
        for index, item in enumerate(response["output"]):
            if item["type"] == "message":
                yield from self._message.begin(index)
                yield from self._message.end(self._logprobs(output, parsed))
            elif item["type"] == "function_call":
                yield from call_events(next(calls), item, index, self._event)
        yield self._event(f"response.{response['status']}", response=response)

    def _grow_reasoning(self, text: str) -> Iterator[str]:
        if text:
            yield from self._reasoning.begin(0)
            yield from self._reasoning.grow(text)

    def _grow_message(self, text: str, logprobs: Sequence[dict[str, Any]] = ()) -> Iterator[str]:
        if text:
            yield from self._reasoning.end()
            yield from self._message.begin(int(self._reasoning.begun))
            yield from self._message.grow(text, logprobs if self._body.logprobs else ())

    def _logprobs(self, output: RequestOutput, parsed: ParsedOutput) -> list[dict[str, Any]]:
        """Return the log-probabilities of the text's tokens, up to where calls were cut out, if they are asked for."""
        return response_logprobs(self._content_tokens(output, parsed)) if self._body.logprobs else []

    def _content_tokens(self, output: RequestOutput, parsed: ParsedOutput) -> list[TokenText]:
        tokens = token_texts(self._tokenizer, output.chosen[0], output.prepared.chat.visible_tokens)
        return content_token_texts(tokens, parsed.text, parsed.thinking)

    def _number_of_tokens(self, text: str) -> int:
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"]) if text else 0

    def _event(self, kind: str, /, **content: Any) -> ServerSentEvent:
        number, self._next_number = self._next_number, self._next_number + 1
        return ServerSentEvent.of({"type": kind, "sequence_number": number, **content}, kind)

    def _object(self, status: str, output: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        body = self._body
        choice = body.tool_choice
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
            "text": body.text.model_dump(by_alias=True, exclude_none=True) if body.text else _PLAIN_TEXT,
            "tool_choice": choice.model_dump(exclude_none=True) if isinstance(choice, NamedTool) else choice or "auto",
            "tools": [tool.as_sent() for tool in body.tools or ()],
            "top_p": body.top_p,
            "truncation": "disabled",
            "usage": None,
            **more,
        }
