"""POST /v1/chat/completions."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from nad_agents.chat.growing_text import GrowingText
from nad_agents.events import TextDelta
from nad_server.disconnect import while_connected
from nad_server.errors import ERRORS
from nad_server.generate import RequestOutput, client_of, generate, generate_events
from nad_server.json_response import JSONResponse, json_or_events
from nad_server.logprobs import TokenText, chat_logprobs, content_token_texts, token_texts
from nad_server.nad_options import NADOptions
from nad_server.outputs import ParsedOutput, evidence_of, parse_output, usage_of
from nad_server.prompt_input import read_chat_template_kwargs, template_messages
from nad_server.protocol import ChatRequest
from nad_server.request_builder import PreparedRequest, build_chat_request, build_output_spec
from nad_server.sse import ServerSentEvent, event_stream
from nad_server.state import ServerState
from nad_server.unsupported_params import ignored_parameters

__all__ = ["router"]

router = APIRouter(tags=["OpenAI"])
_PATH = "/v1/chat/completions"


@router.post(_PATH, responses={**json_or_events("A chat completion, or a stream of chunks."), **ERRORS})
async def chat_completions(request: Request, body: ChatRequest) -> Response:
    """Answer a conversation with the best of N candidates; `nad` holds the evidence for the choice."""
    state: ServerState = request.app.state.server
    ignored = ignored_parameters(body)
    state = state.serving(body.model)
    prepared = await state.run_in_thread(_prepare, state, body, state.options(body.model, body.nad), ignored)
    completion = _ChatCompletion(state, body)
    if body.stream:
        return event_stream(request, completion.stream(prepared, client_of(request)))
    output = await while_connected(request, generate(state, prepared, client_of(request)))
    return JSONResponse(completion.full(output))


def _prepare(state: ServerState, body: ChatRequest, nad: NADOptions, ignored: list[str]) -> PreparedRequest:
    messages = template_messages(body.messages)
    options, hints = read_chat_template_kwargs(state.decoder.loaded.tokenizer, body, tools=bool(body.tools))
    output_spec = build_output_spec(
        body.tools or (), body.tool_choice, body.parallel_tool_calls, body.response_format, options
    )
    return build_chat_request(state, body, nad, messages, output_spec, ignored=[*ignored, *hints])


class _ChatCompletion:
    """The response to one request, whole or as a stream."""

    def __init__(self, state: ServerState, body: ChatRequest) -> None:
        self._state = state
        self._body = body
        self._tokenizer = state.decoder.loaded.tokenizer
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())

    def full(self, output: RequestOutput) -> dict[str, Any]:
        """Return the response as one object."""
        choices = []
        for index in range(len(output.chosen)):
            parsed = self._parsed(output, index)
            message: dict[str, Any] = {"role": "assistant", "content": parsed.text, "refusal": None}
            if parsed.calls:
                message["content"] = parsed.text or None
                message["tool_calls"] = [
                    {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                    for call in parsed.calls
                ]
            if parsed.thinking:
                message["reasoning_content"] = parsed.thinking
            logprobs = chat_logprobs(self._content_tokens(output, index, parsed)) if self._body.logprobs else None
            choices.append(
                {"index": index, "message": message, "logprobs": logprobs, "finish_reason": parsed.finish_reason}
            )
        return self._object("chat.completion", choices, usage=usage_of([output]), nad=evidence_of(output))

    async def stream(self, prepared: PreparedRequest, client: str) -> AsyncGenerator[str]:
        """Yield the response as chunks: the role at once, then text as soon as it is known to be the winner's."""
        timer = self._state.metrics.first_text_timer(_PATH)
        growing = [GrowingText(prepared.chat.parser) for _ in range(prepared.num_choices)]
        for index in range(prepared.num_choices):
            yield self._chunk(index, {"role": "assistant", "content": "", "refusal": None})
        # log-probabilities are known with the whole answer only
        stream_text = not self._body.logprobs
        async with aclosing(generate_events(self._state, prepared, client, stream_text=stream_text)) as events:
            async for event in events:
                timer.stop()
                if isinstance(event, TextDelta):
                    new = growing[0].add(event.text)
                    if new.thinking:
                        yield self._chunk(0, {"reasoning_content": new.thinking})
                    if new.content:
                        yield self._chunk(0, {"content": new.content})
                    continue
                for index in range(len(event.chosen)):
                    for chunk in self._rest(event, index, growing[index]):
                        yield chunk
                if self._body.usage_in_stream:
                    yield ServerSentEvent.of(self._object("chat.completion.chunk", [], usage=usage_of([event])))

    def _rest(self, output: RequestOutput, index: int, growing: GrowingText) -> Iterator[str]:
        """Yield what a choice still lacks: text token by token, calls, the finish reason and the evidence."""
        parsed, position, sent = self._parsed(output, index), 0, len(growing.sent.content)
        if thinking := parsed.thinking[len(growing.sent.thinking) :]:
            yield self._chunk(index, {"reasoning_content": thinking})
        unsent: list[TokenText] = []
        for token in self._content_tokens(output, index, parsed):
            unsent.append(token)
            position += len(token.text)
            if position > sent and token.text:
                text = token.text[-(position - sent) :]
                yield self._chunk(index, {"content": text}, chat_logprobs(unsent) if self._body.logprobs else None)
                unsent = []
        if rest := parsed.text[max(position, sent) :]:
            yield self._chunk(index, {"content": rest})
        for number, call in enumerate(parsed.calls):
            head = {"index": number, "id": call.id, "type": "function"}
            yield self._chunk(index, {"tool_calls": [{**head, "function": {"name": call.name, "arguments": ""}}]})
            for arguments in call.argument_deltas():
                yield self._chunk(index, {"tool_calls": [{"index": number, "function": {"arguments": arguments}}]})
        evidence = {"nad": evidence_of(output)} if index == 0 else {}
        yield self._chunk(index, {}, finish_reason=parsed.finish_reason, **evidence)

    def _content_tokens(self, output: RequestOutput, index: int, parsed: ParsedOutput) -> list[TokenText]:
        tokens = token_texts(self._tokenizer, output.chosen[index], output.prepared.chat.visible_tokens)
        return content_token_texts(tokens, parsed.text, parsed.thinking)

    def _parsed(self, output: RequestOutput, index: int) -> ParsedOutput:
        parallel = self._body.parallel_tool_calls is not False
        return parse_output(output.chosen[index], output.prepared.chat.parser, parallel=parallel)

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        logprobs: dict[str, Any] | None = None,
        finish_reason: str | None = None,
        **more: Any,
    ) -> ServerSentEvent:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        usage = {"usage": None} if self._body.usage_in_stream else {}
        return ServerSentEvent.of(self._object("chat.completion.chunk", [choice], **usage, **more))

    def _object(self, kind: str, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        head = {"id": self._id, "object": kind, "created": self._created, "model": self._body.model}
        return {**head, "choices": choices, **more}
