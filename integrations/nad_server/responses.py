"""POST /v1/responses: the newer form, with named events; nothing is kept between requests."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from itertools import chain
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from nad_agents.events import TextDelta
from nad_server.answering import Answer, answer, answer_events, client_of, while_connected
from nad_server.documentation import ERRORS, answers_with
from nad_server.errors import APIError, JSONAnswer
from nad_server.events import FirstText, Frame, event_stream
from nad_server.messages import template_messages
from nad_server.pieces import Piece, part_pieces, pieces_of, response_logprobs
from nad_server.questions import Question, chat_question
from nad_server.replies import GrowingText, Part, evidence_of, part_of, usage_of
from nad_server.response_items import TextItem, call_events, call_item
from nad_server.service import Service
from nad_server.template import template_options
from nad_server.unsupported import refuse_unsupported
from nad_server.wire_responses import ResponsesRequest, arguments_of, conversation_of, refuse_several

__all__ = ["router"]

router = APIRouter(tags=["OpenAI"])
_PATH = "/v1/responses"
_PLAIN = {"format": {"type": "text"}}


@router.post(_PATH, responses={**answers_with("A response, or a stream of its events."), **ERRORS})
async def responses(request: Request, body: ResponsesRequest) -> Response:
    """Answer an input: the best of N candidates, with the evidence under `nad`."""
    service: Service = request.app.state.service
    refuse_unsupported(body)
    refuse_several(body)
    nad = service.options(body.model, body.nad)
    conversation = template_messages(conversation_of(body))
    variables = template_options(service.decoder.loaded.tokenizer, body, tools=bool(body.tools))
    arguments = arguments_of(body) | {"chat_template_kwargs": variables}
    asked = partial(chat_question, service, body, nad, conversation, arguments, param="input")
    question = await service.prepare(asked)
    response = _Response(service, body)
    if body.stream:
        return event_stream(
            request,
            response.frames(question, client_of(request)),
            ping=response.in_progress,
            failed=response.failed,
            done="",
        )
    found = await while_connected(request, answer(service, question, client_of(request)))
    return JSONAnswer(response.whole(found))


class _Response:
    """The answer to one request, in OpenAI's form."""

    def __init__(self, service: Service, body: ResponsesRequest) -> None:
        self._service = service
        self._body = body
        self._tokenizer = service.decoder.loaded.tokenizer
        self._id = f"resp_{secrets.token_hex(16)}"
        self._created = int(time.time())
        self._events = 0
        self._reasoning = TextItem("reasoning", self._event)
        self._message = TextItem("message", self._event)

    def whole(self, found: Answer, part: Part | None = None) -> dict[str, Any]:
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

    async def frames(self, question: Question, client: str) -> AsyncGenerator[str]:
        """Event by event."""
        first, growing = FirstText(self._service, _PATH), GrowingText(question.reader)
        yield self._event("response.created", response=self._object("in_progress", []))
        yield self.in_progress()
        early = not self._body.logprobs
        async with aclosing(answer_events(self._service, question, client, early=early)) as events:
            async for event in events:
                first.seen()
                if isinstance(event, TextDelta):
                    thinking, text = growing.add(event.text)
                    found: Iterator[str] = chain(self._think(thinking), self._say(text))
                else:
                    found = self._rest(event, growing)
                for frame in found:
                    yield frame

    def in_progress(self) -> Frame:
        """Says that candidates are being written."""
        return self._event("response.in_progress", response=self._object("in_progress", []))

    def failed(self, error: APIError) -> Frame:
        """The last event of a response that failed."""
        told = {"code": error.code or "server_error", "message": error.message}
        return self._event("response.failed", response=self._object("failed", [], error=told))

    def _rest(self, found: Answer, growing: GrowingText) -> Iterator[str]:
        """What is still to be sent: thinking, the text token by token, the calls, the response as a whole."""
        part, at, sent = self._part(found), 0, growing.sent
        yield from self._think(part.thinking[growing.thought :])
        group: list[Piece] = []
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

    def _logprobs(self, found: Answer, part: Part) -> list[dict[str, Any]]:
        """Of the text's tokens, where they are asked for; up to where calls were cut out."""
        return response_logprobs(self._pieces(found, part)) if self._body.logprobs else []

    def _pieces(self, found: Answer, part: Part) -> list[Piece]:
        pieces = pieces_of(self._tokenizer, found.chosen[0], found.visible_tokens)
        return part_pieces(pieces, part.text, part.thinking)

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

    def _part(self, found: Answer) -> Part:
        return part_of(found.chosen[0], found.question.reader, parallel=self._body.parallel_tool_calls is not False)

    def _event(self, kind: str, /, **content: Any) -> Frame:
        number, self._events = self._events, self._events + 1
        return Frame.of({"type": kind, "sequence_number": number, **content}, kind)

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
