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
from nad_server.disconnect import while_connected
from nad_server.errors import ERRORS, APIError
from nad_server.fill_in_middle import fill_in_middle_prompt
from nad_server.generate import RequestOutput, client_of, generate, generate_events
from nad_server.json_response import JSONResponse, json_or_events
from nad_server.logprobs import TokenText, completion_logprobs, token_texts
from nad_server.nad_options import NADOptions
from nad_server.outputs import evidence_of, parse_output, usage_of
from nad_server.protocol import CompletionRequest
from nad_server.request_builder import PreparedRequest, build_text_request
from nad_server.sse import ServerSentEvent, event_stream
from nad_server.state import ServerState
from nad_server.unsupported_params import ignored_parameters

__all__ = ["router"]

router = APIRouter(tags=["OpenAI"])
_PATH = "/v1/completions"


@router.post(_PATH, responses={**json_or_events("A completion, or a stream of chunks."), **ERRORS})
async def completions(request: Request, body: CompletionRequest) -> Response:
    """Continue a text with the best of N candidates; `nad` holds the evidence for the choice."""
    state: ServerState = request.app.state.server
    ignored = ignored_parameters(body)
    state = state.serving(body.model)
    nad = state.options(body.model, body.nad)
    if body.best_of is not None:
        nad = nad.model_copy(update={"n": nad.n or body.best_of})
    prepared_requests = await state.run_in_thread(_prepare, state, body, nad, ignored)
    completion, client = _Completion(state, body), client_of(request)
    if body.stream:
        return event_stream(request, completion.stream(prepared_requests, client))
    outputs = await while_connected(request, _generate_all(state, prepared_requests, client))
    return JSONResponse(completion.full(outputs))


def _prepare(state: ServerState, body: CompletionRequest, nad: NADOptions, ignored: list[str]) -> list[PreparedRequest]:
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    if len(prompts) > state.settings.max_prompts:
        message = f"{len(prompts)} prompts are more than the {state.settings.max_prompts} that one request may have"
        raise APIError(400, message, code="invalid_value", param="prompt")
    if body.suffix:
        tokenizer = state.decoder.loaded.tokenizer
        prompts = [fill_in_middle_prompt(tokenizer, prompt, body.suffix) for prompt in prompts]
    return [build_text_request(state, body, nad, prompt, ignored=ignored) for prompt in prompts]


async def _generate_all(
    state: ServerState, prepared_requests: list[PreparedRequest], client: str
) -> list[RequestOutput]:
    """Answer several prompts, which share the batch; the first that fails cancels the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(generate(state, prepared, client)) for prepared in prepared_requests]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


class _Completion:
    """The response to one request, whole or as a stream."""

    def __init__(self, state: ServerState, body: CompletionRequest) -> None:
        self._state = state
        self._body = body
        self._tokenizer = state.decoder.loaded.tokenizer
        self._id = f"cmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())

    def full(self, outputs: list[RequestOutput]) -> dict[str, Any]:
        """Return the response as one object."""
        choices: list[dict[str, Any]] = []
        for output in outputs:
            for rollout in output.chosen:
                logprobs = None
                if self._body.logprobs is not None:
                    logprobs = completion_logprobs(token_texts(self._tokenizer, rollout))
                choices.append(
                    {
                        "text": rollout.text,
                        "index": len(choices),
                        "logprobs": logprobs,
                        "finish_reason": parse_output(rollout, output.prepared.chat.parser).finish_reason,
                    }
                )
        evidence = [evidence_of(output) for output in outputs]
        return self._object(choices, usage=usage_of(outputs), nad=evidence[0] if len(evidence) == 1 else evidence)

    async def stream(self, prepared_requests: list[PreparedRequest], client: str) -> AsyncGenerator[str]:
        """Yield the response as chunks, prompt after prompt."""
        timer = self._state.metrics.first_text_timer(_PATH)
        outputs: list[RequestOutput] = []
        # log-probabilities are known with the whole answer only
        stream_text = self._body.logprobs is None
        for prepared in prepared_requests:
            first_index, sent = len(outputs) * prepared.num_choices, 0
            async with aclosing(generate_events(self._state, prepared, client, stream_text=stream_text)) as events:
                async for event in events:
                    timer.stop()
                    if isinstance(event, TextDelta):
                        sent += len(event.text)
                        yield self._chunk(first_index, event.text)
                        continue
                    outputs.append(event)
                    for chunk in self._rest(event, first_index, sent):
                        yield chunk
        if self._body.usage_in_stream:
            yield ServerSentEvent.of(self._object([], usage=usage_of(outputs)))

    def _rest(self, output: RequestOutput, first_index: int, sent: int) -> Iterator[str]:
        """Yield what the choices of a prompt still lack, of whose first one `sent` characters have been sent."""
        for place in range(len(output.chosen)):
            yield from self._rest_of_choice(output, place, first_index + place, sent if place == 0 else 0)

    def _rest_of_choice(self, output: RequestOutput, place: int, index: int, sent: int) -> Iterator[str]:
        """Yield what a choice still lacks: text token by token, the finish reason and the evidence.

        Args:
            output: The result for the choice's prompt.
            place: The place of the choice among those of its prompt.
            index: The index of the choice in the response.
            sent: Number of characters of its text that have been sent.
        """
        rollout, position, unsent = output.chosen[place], 0, list[TokenText]()
        for token in token_texts(self._tokenizer, rollout):
            unsent.append(token)
            position += len(token.text)
            if position > sent and token.text:
                start = position - len(token.text)
                logprobs = completion_logprobs(unsent, start) if self._body.logprobs is not None else None
                yield self._chunk(index, token.text[-(position - sent) :], logprobs)
                unsent = []
        evidence = {"nad": evidence_of(output)} if place == 0 else {}
        finish_reason = parse_output(rollout, output.prepared.chat.parser).finish_reason
        yield self._chunk(index, "", finish_reason=finish_reason, **evidence)

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
