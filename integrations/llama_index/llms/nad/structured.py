"""Answers that are objects of a class, whole or streamed; the grammar allows nothing but the class's schema."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from llama_index.core.base.llms.types import ChatResponse
from llama_index.core.instrumentation.events.llm import (
    LLMStructuredPredictEndEvent,
    LLMStructuredPredictInProgressEvent,
    LLMStructuredPredictStartEvent,
)
from llama_index.core.program.utils import process_streaming_objects
from llama_index.core.prompts import BasePromptTemplate
from llama_index_instrumentation import get_dispatcher
from pydantic import BaseModel, ValidationError

from nad_agents.chat.class_schemas import class_schema
from nad_agents.exceptions import NADError

__all__ = ["PartialObjects", "StructuredOutputError", "parsed_object", "report_start", "schema_arguments"]

M = TypeVar("M", bound=BaseModel)

_PROGRAM_ARGUMENTS = {"tool_required", "tool_choice", "allow_parallel_tool_calls"}
"""Arguments of LlamaIndex's programs that make no difference where a grammar holds the answer."""

dispatcher = get_dispatcher(__name__)


class StructuredOutputError(NADError, ValueError):
    """An answer breaks off, or follows the schema and is refused by the class."""


def schema_arguments(output_cls: type[BaseModel], llm_kwargs: dict[str, Any] | None) -> dict[str, Any]:
    """Return the arguments of a call whose answer is to be an object of a class.

    Args:
        output_cls: A pydantic class.
        llm_kwargs: Further arguments of the call.
    """
    arguments = {name: value for name, value in (llm_kwargs or {}).items() if name not in _PROGRAM_ARGUMENTS}
    schema = {"name": output_cls.__name__, "schema": class_schema(output_cls)}
    return {**arguments, "response_format": {"type": "json_schema", "json_schema": schema}}


def report_start(output_cls: type[BaseModel], prompt: BasePromptTemplate, variables: dict[str, Any]) -> None:
    """Send LlamaIndex's event that a prediction begins.

    Args:
        output_cls: The class of the object.
        prompt: The prompt.
        variables: Variables of the prompt.
    """
    dispatcher.event(LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=variables))


def parsed_object(response: ChatResponse, output_cls: type[M]) -> M:
    """Return the object that an answer is.

    Args:
        response: The whole answer.
        output_cls: The class of the object.

    Raises:
        StructuredOutputError: The token limit cut the object off, or the class refuses it by a rule that its schema
            does not say.
    """
    text = response.message.content or ""
    try:
        parsed = output_cls.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or output_cls.__name__
        cut = isinstance(response.raw, dict) and response.raw.get("finish_reason") == "length"
        advice = "raise max_tokens" if cut else "say the rule in the schema, or in the field's description"
        msg = f"the answer {text!r} is no {output_cls.__name__}: {where}: {problem['msg']}; {advice}"
        raise StructuredOutputError(msg) from error
    dispatcher.event(LLMStructuredPredictEndEvent(output=parsed))
    return parsed


class PartialObjects:
    """The objects of a class in a streamed answer; unfinished ones are of a flexible class with the same fields.

    Args:
        output_cls: A pydantic class.
    """

    def __init__(self, output_cls: type[M]) -> None:
        self._output_cls = output_cls
        self._last: Sequence[BaseModel] | None = None

    def of(self, responses: Iterable[ChatResponse]) -> Iterator[BaseModel]:
        """Yield an object for each response that adds something, the finished one last.

        Args:
            responses: A streamed answer.

        Raises:
            StructuredOutputError: See `parsed_object`.
        """
        response = None
        for response in responses:
            yield from self._partial(response)
        assert response is not None
        yield parsed_object(response, self._output_cls)

    async def aof(self, responses: AsyncIterable[ChatResponse]) -> AsyncIterator[BaseModel]:
        """Yield the objects as `of` does without blocking the event loop."""
        response = None
        async for response in responses:
            for partial in self._partial(response):
                yield partial
        assert response is not None
        yield parsed_object(response, self._output_cls)

    def _partial(self, response: ChatResponse) -> Iterator[BaseModel]:
        if response.raw is not None:  # the last response, which is parsed as a whole
            return
        partial = process_streaming_objects(response, self._output_cls, cur_objects=self._last)
        if isinstance(partial, BaseModel) and (self._last is None or partial != self._last[0]):
            self._last = [partial]
            dispatcher.event(LLMStructuredPredictInProgressEvent(output=partial))
            yield partial
