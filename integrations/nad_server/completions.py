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
from nad_server.answering import Answer, answer, answer_events, client_of, while_connected
from nad_server.documentation import ERRORS, answers_with
from nad_server.errors import APIError, JSONAnswer
from nad_server.events import FirstText, Frame, event_stream
from nad_server.fill_in import fill_in_prompt
from nad_server.pieces import Piece, completion_logprobs, pieces_of
from nad_server.questions import Question, text_question
from nad_server.replies import evidence_of, part_of, usage_of
from nad_server.service import Service
from nad_server.unsupported import refuse_unsupported
from nad_server.wire import NADOptions
from nad_server.wire_completions import CompletionRequest

__all__ = ["router"]

router = APIRouter(tags=["OpenAI"])
_PATH = "/v1/completions"


@router.post(_PATH, responses={**answers_with("A completion, or a stream of chunks."), **ERRORS})
async def completions(request: Request, body: CompletionRequest) -> Response:
    """Go on with a text: the best of N candidates, with the evidence under `nad`."""
    service: Service = request.app.state.service
    refuse_unsupported(body)
    nad = service.options(body.model, body.nad)
    if body.best_of is not None:
        nad = nad.model_copy(update={"n": nad.n or body.best_of})
    questions = await service.prepare(_questions, service, body, nad)
    completion = _Completion(service, body)
    client = client_of(request)
    if body.stream:
        return event_stream(request, completion.frames(questions, client))
    found = await while_connected(request, _together(service, questions, client))
    return JSONAnswer(completion.whole(found))


async def _together(service: Service, questions: list[Question], client: str) -> list[Answer]:
    """Answers to several prompts, which share the batch; one that fails ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(answer(service, question, client)) for question in questions]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def _questions(service: Service, body: CompletionRequest, nad: NADOptions) -> list[Question]:
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    if len(prompts) > service.settings.max_prompts:
        message = f"{len(prompts)} prompts are more than the {service.settings.max_prompts} that one request may have"
        raise APIError(400, message, code="invalid_value", param="prompt")
    if body.suffix:
        tokenizer = service.decoder.loaded.tokenizer
        prompts = [fill_in_prompt(tokenizer, prompt, body.suffix) for prompt in prompts]
    return [text_question(service, body, nad, prompt) for prompt in prompts]


class _Completion:
    """The answer to one request, in OpenAI's form."""

    def __init__(self, service: Service, body: CompletionRequest) -> None:
        self._service = service
        self._body = body
        self._tokenizer = service.decoder.loaded.tokenizer
        self._id = f"cmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())

    def whole(self, found: list[Answer]) -> dict[str, Any]:
        """Everything at once."""
        choices: list[dict[str, Any]] = []
        for answered in found:
            for rollout in answered.chosen:
                pieces = pieces_of(self._tokenizer, rollout) if self._body.logprobs is not None else None
                choices.append(
                    {
                        "text": rollout.text,
                        "index": len(choices),
                        "logprobs": None if pieces is None else completion_logprobs(pieces),
                        "finish_reason": part_of(rollout, answered.question.reader).finish_reason,
                    }
                )
        evidence = [evidence_of(answered) for answered in found]
        return self._object(choices, usage=usage_of(found), nad=evidence[0] if len(evidence) == 1 else evidence)

    async def frames(self, questions: list[Question], client: str) -> AsyncGenerator[str]:
        """Piece by piece, prompt after prompt."""
        first = FirstText(self._service, _PATH)
        answers: list[Answer] = []
        for question in questions:
            base, sent = len(answers) * question.returned, 0
            early = self._body.logprobs is None
            async with aclosing(answer_events(self._service, question, client, early=early)) as events:
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
            yield Frame.of(self._object([], usage=usage_of(answers)))

    def _rest(self, found: Answer, place: int, index: int, sent: int) -> Iterator[str]:
        """What is still to be sent of one answer: its text token by token, why it ended, the evidence."""
        rollout, at, group = found.chosen[place], 0, list[Piece]()
        for piece in pieces_of(self._tokenizer, rollout):
            group.append(piece)
            at += len(piece.text)
            if at > sent and piece.text:
                start = at - len(piece.text)
                logprobs = completion_logprobs(group, start) if self._body.logprobs is not None else None
                yield self._chunk(index, piece.text[-(at - sent) :], logprobs)
                group = []
        evidence = {"nad": evidence_of(found)} if place == 0 else {}
        reason = part_of(rollout, found.question.reader).finish_reason
        yield self._chunk(index, "", finish_reason=reason, **evidence)

    def _chunk(
        self,
        index: int,
        text: str,
        logprobs: dict[str, Any] | None = None,
        finish_reason: str | None = None,
        **more: Any,
    ) -> Frame:
        choice = {"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish_reason}
        usage = {"usage": None} if self._body.usage_in_stream else {}
        return Frame.of(self._object([choice], **usage, **more))

    def _object(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        head = {"id": self._id, "object": "text_completion", "created": self._created, "model": self._body.model}
        return {**head, "choices": choices, **more}
