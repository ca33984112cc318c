"""POST /v1/completions."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from nad_agents.events import TextDelta
from nad_server.errors import ERRORS, APIError, JSONAnswer, answers_with
from nad_server.generate import RequestOutput, client_of, generate, generate_events
from nad_server.logprobs import TokenText, completion_logprobs, token_texts
from nad_server.outputs import evidence_of, parsed_output, usage_of
from nad_server.prompt_input import fill_in_prompt
from nad_server.protocol import CompletionRequest, NADOptions
from nad_server.request_builder import PreparedRequest, build_text_request
from nad_server.sse import FirstText, ServerSentEvent, event_stream, while_connected
from nad_server.state import ServerState
from nad_server.unsupported_params import refuse_unsupported

__all__ = ["router"]

router = APIRouter(tags=["OpenAI"])
_PATH = "/v1/completions"


@router.post(_PATH, responses={**answers_with("A completion, or a stream of chunks."), **ERRORS})
async def completions(request: Request, body: CompletionRequest) -> Response:
    """Go on with a text: the best of N candidates, with the evidence under `nad`."""
    state: ServerState = request.app.state.server
    refuse_unsupported(body)
    nad = state.options(body.model, body.nad)
    if body.best_of is not None:
        nad = nad.model_copy(update={"n": nad.n or body.best_of})
    prepared_requests = await state.prepare(_questions, state, body, nad)
    completion = _Completion(state, body)
    client = client_of(request)
    if body.stream:
        return event_stream(request, completion.frames(prepared_requests, client))
    found = await while_connected(request, _together(state, prepared_requests, client))
    return JSONAnswer(completion.whole(found))


async def _together(state: ServerState, prepared_requests: list[PreparedRequest], client: str) -> list[RequestOutput]:
    """Answers to several prompts, which share the batch; one that fails ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(generate(state, prepared, client)) for prepared in prepared_requests]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def _questions(state: ServerState, body: CompletionRequest, nad: NADOptions) -> list[PreparedRequest]:
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    if len(prompts) > state.settings.max_prompts:
        message = f"{len(prompts)} prompts are more than the {state.settings.max_prompts} that one request may have"
        raise APIError(400, message, code="invalid_value", param="prompt")
    if body.suffix:
        tokenizer = state.decoder.loaded.tokenizer
        prompts = [fill_in_prompt(tokenizer, prompt, body.suffix) for prompt in prompts]
    return [build_text_request(state, body, nad, prompt) for prompt in prompts]


class _Completion:
    """The answer to one request, in OpenAI's form."""

    def __init__(self, state: ServerState, body: CompletionRequest) -> None:
        self._state = state
        self._body = body
        self._tokenizer = state.decoder.loaded.tokenizer
        self._id = f"cmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())

    def whole(self, found: list[RequestOutput]) -> dict[str, Any]:
        """Everything at once."""
        choices: list[dict[str, Any]] = []
        for answered in found:
            for rollout in answered.chosen:
                pieces = token_texts(self._tokenizer, rollout) if self._body.logprobs is not None else None
                choices.append(
                    {
                        "text": rollout.text,
                        "index": len(choices),
                        "logprobs": None if pieces is None else completion_logprobs(pieces),
                        "finish_reason": parsed_output(rollout, answered.prepared.chat.parser).finish_reason,
                    }
                )
        evidence = [evidence_of(answered) for answered in found]
        return self._object(choices, usage=usage_of(found), nad=evidence[0] if len(evidence) == 1 else evidence)

    async def frames(self, prepared_requests: list[PreparedRequest], client: str) -> AsyncGenerator[str]:
        """TokenText by piece, prompt after prompt."""
        first = FirstText(self._state, _PATH)
        answers: list[RequestOutput] = []
        for prepared in prepared_requests:
            base, sent = len(answers) * prepared.returned, 0
            early = self._body.logprobs is None
            async with aclosing(generate_events(self._state, prepared, client, early=early)) as events:
                async for event in events:
                    first.seen()
                    if isinstance(event, TextDelta):
                        sent += len(event.text)
                        yield self._chunk(base, event.text)
                        continue
                    answers.append(event)
                    for place in range(len(event.chosen)):
                        for frame in self._rest(event, place, base + place, sent if place == 0 else 0):
                            yield frame
        if self._body.usage_in_stream:
            yield ServerSentEvent.of(self._object([], usage=usage_of(answers)))

    def _rest(self, found: RequestOutput, place: int, index: int, sent: int) -> Iterator[str]:
        """What is still to be sent of one answer: its text token by token, why it ended, the evidence."""
        rollout, at, group = found.chosen[place], 0, list[TokenText]()
        for piece in token_texts(self._tokenizer, rollout):
            group.append(piece)
            at += len(piece.text)
            if at > sent and piece.text:
                start = at - len(piece.text)
                logprobs = completion_logprobs(group, start) if self._body.logprobs is not None else None
                yield self._chunk(index, piece.text[-(at - sent) :], logprobs)
                group = []
        evidence = {"nad": evidence_of(found)} if place == 0 else {}
        reason = parsed_output(rollout, found.prepared.chat.parser).finish_reason
        yield self._chunk(index, "", finish_reason=reason, **evidence)

    def _chunk(
        self,
        index: int,
        text: str,
        logprobs: dict[str, Any] | None = None,
        finish_reason: str | None = None,
        **more: Any,
    ) -> ServerSentEvent:
        choice = {"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish_reason}
        usage = {"usage": None} if self._body.usage_in_stream else {}
        return ServerSentEvent.of(self._object([choice], **usage, **more))

    def _object(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        head = {"id": self._id, "object": "text_completion", "created": self._created, "model": self._body.model}
        return {**head, "choices": choices, **more}
