"""POST /v1/chat/completions."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from nad_agents.events import TextDelta
from nad_agents.rollouts import Rollout
from nad_server.errors import ERRORS, JSONAnswer, answers_with
from nad_server.generate import RequestOutput, client_of, generate, generate_events
from nad_server.logprobs import TokenText, chat_logprobs, content_token_texts, token_texts
from nad_server.outputs import GrowingText, ParsedOutput, evidence_of, parsed_output, usage_of
from nad_server.prompt_input import template_messages, template_options
from nad_server.protocol import ChatRequest
from nad_server.request_builder import PreparedRequest, build_chat_request
from nad_server.sse import FirstText, ServerSentEvent, event_stream, while_connected
from nad_server.state import ServerState
from nad_server.unsupported_params import refuse_unsupported

__all__ = ["router"]

router = APIRouter(tags=["OpenAI"])
_PATH = "/v1/chat/completions"


@router.post(_PATH, responses={**answers_with("A chat completion, or a stream of chunks."), **ERRORS})
async def chat_completions(request: Request, body: ChatRequest) -> Response:
    """Answer a conversation: the best of N candidates, with the evidence under `nad`."""
    state: ServerState = request.app.state.server
    refuse_unsupported(body)
    nad = state.options(body.model, body.nad)
    arguments = body.model_dump(
        include={"tools", "tool_choice", "parallel_tool_calls", "response_format"}, exclude_none=True, by_alias=True
    )
    tokenizer = state.decoder.loaded.tokenizer
    arguments["chat_template_kwargs"] = template_options(tokenizer, body, tools=bool(body.tools))
    prepared = await state.prepare(build_chat_request, state, body, nad, template_messages(body.messages), arguments)
    completion = _Completion(state, body)
    if body.stream:
        return event_stream(request, completion.frames(prepared, client_of(request)))
    found = await while_connected(request, generate(state, prepared, client_of(request)))
    return JSONAnswer(completion.whole(found))


class _Completion:
    """The answer to one request, in OpenAI's form."""

    def __init__(self, state: ServerState, body: ChatRequest) -> None:
        self._state = state
        self._body = body
        self._tokenizer = state.decoder.loaded.tokenizer
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())

    def whole(self, found: RequestOutput) -> dict[str, Any]:
        """Everything at once."""
        choices = []
        for index, rollout in enumerate(found.chosen):
            part = self._part(found, index)
            message: dict[str, Any] = {"role": "assistant", "content": part.text or None, "refusal": None}
            if part.calls:
                message["tool_calls"] = [
                    {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                    for call in part.calls
                ]
            else:
                message["content"] = part.text
            if part.thinking:
                message["reasoning_content"] = part.thinking
            logprobs = chat_logprobs(self._pieces(found, rollout, part)) if self._body.logprobs else None
            choices.append(
                {"index": index, "message": message, "logprobs": logprobs, "finish_reason": part.finish_reason}
            )
        return self._object("chat.completion", choices, usage=usage_of([found]), nad=evidence_of(found))

    async def frames(self, prepared: PreparedRequest, client: str) -> AsyncGenerator[str]:
        """TokenText by piece: the role at once, then what the selection brings."""
        first, growing = FirstText(self._state, _PATH), GrowingText(prepared.chat.parser)
        for index in range(prepared.returned):
            yield self._chunk(index, {"role": "assistant", "content": "", "refusal": None})
        early = not self._body.logprobs
        async with aclosing(generate_events(self._state, prepared, client, early=early)) as events:
            async for event in events:
                first.seen()
                if isinstance(event, TextDelta):
                    thinking, text = growing.add(event.text)
                    if thinking:
                        yield self._chunk(0, {"reasoning_content": thinking})
                    if text:
                        yield self._chunk(0, {"content": text})
                    continue
                for index in range(len(event.chosen)):
                    for frame in self._rest(event, index, growing if index == 0 else GrowingText(prepared.chat.parser)):
                        yield frame
                if self._body.usage_in_stream:
                    yield ServerSentEvent.of(self._object("chat.completion.chunk", [], usage=usage_of([event])))

    def _rest(self, found: RequestOutput, index: int, growing: GrowingText) -> Iterator[str]:
        """What is still to be sent of one answer: its text token by token, its calls, why it ended, the evidence."""
        part, at, sent = self._part(found, index), 0, growing.sent
        if thinking := part.thinking[growing.thought :]:
            yield self._chunk(index, {"reasoning_content": thinking})
        group: list[TokenText] = []
        for piece in self._pieces(found, found.chosen[index], part):
            group.append(piece)
            at += len(piece.text)
            if at > sent and piece.text:
                text = piece.text[-(at - sent) :]
                yield self._chunk(index, {"content": text}, chat_logprobs(group) if self._body.logprobs else None)
                group = []
        if rest := part.text[max(at, sent) :]:
            yield self._chunk(index, {"content": rest})
        for number, call in enumerate(part.calls):
            head = {"index": number, "id": call.id, "type": "function"}
            yield self._chunk(index, {"tool_calls": [{**head, "function": {"name": call.name, "arguments": ""}}]})
            for piece_of_arguments in call.argument_pieces():
                function = {"arguments": piece_of_arguments}
                yield self._chunk(index, {"tool_calls": [{"index": number, "function": function}]})
        evidence = {"nad": evidence_of(found)} if index == 0 else {}
        yield self._chunk(index, {}, finish_reason=part.finish_reason, **evidence)

    def _pieces(self, found: RequestOutput, rollout: Rollout, part: ParsedOutput) -> list[TokenText]:
        return content_token_texts(
            token_texts(self._tokenizer, rollout, found.prepared.chat.visible_tokens), part.text, part.thinking
        )

    def _part(self, found: RequestOutput, index: int) -> ParsedOutput:
        parallel = self._body.parallel_tool_calls is not False
        return parsed_output(found.chosen[index], found.prepared.chat.parser, parallel=parallel)

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
