"""Objects of a class: the grammar allows nothing else than its schema, streamed or whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
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

from nad_agents.exceptions import NADError

__all__ = ["Growing", "StructuredOutputError", "parsed", "shape", "started"]

M = TypeVar("M", bound=BaseModel)

_PROGRAM_ONLY = {"tool_required", "tool_choice", "allow_parallel_tool_calls"}
"""What callers of LlamaIndex's programs may pass, and what makes no difference to a grammar."""

dispatcher = get_dispatcher(__name__)


class StructuredOutputError(NADError, ValueError):
    """An answer fits the schema as far as it goes, but the class refuses it."""


def shape(output_cls: type[BaseModel], llm_kwargs: dict[str, Any] | None) -> dict[str, Any]:
    """Arguments of a call whose answer is to be an object of a class.

    Args:
        output_cls: the class.
        llm_kwargs: further arguments of the call.
    """
    kept = {name: value for name, value in (llm_kwargs or {}).items() if name not in _PROGRAM_ONLY}
    schema = {"name": output_cls.__name__, "schema": output_cls.model_json_schema()}
    return {**kept, "response_format": {"type": "json_schema", "json_schema": schema}}


def started(output_cls: type[BaseModel], prompt: BasePromptTemplate, arguments: dict[str, Any]) -> None:
    """Tell who listens that a prediction begins."""
    dispatcher.event(LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=arguments))


def parsed(response: ChatResponse, output_cls: type[M]) -> M:
    """The object that an answer is.

    Raises:
        StructuredOutputError: the token limit cut it off, or a rule of the class refuses it that its schema does not
            say.
    """
    text = response.message.content or ""
    try:
        found = output_cls.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or output_cls.__name__
        cut = isinstance(response.raw, dict) and response.raw.get("finish_reason") == "length"
        advice = "raise max_tokens" if cut else "say the rule in the schema, or in the field's description"
        msg = f"the answer {text!r} is no {output_cls.__name__}: {where}: {problem['msg']}; {advice}"
        raise StructuredOutputError(msg) from error
    dispatcher.event(LLMStructuredPredictEndEvent(output=found))
    return found


class Growing:
    """Objects of a class as they grow; unfinished ones are of a flexible class with the same fields.

    Args:
        output_cls: the class.
    """

    def __init__(self, output_cls: type[M]) -> None:
        self._output_cls = output_cls
        self._seen: Sequence[BaseModel] | None = None

    def over(self, responses: Iterator[ChatResponse]) -> Iterator[BaseModel]:
        """An object for each response that says something new, the finished one last."""
        last = None
        for response in responses:
            last = response
            yield from self._partial(response)
        assert last is not None
        yield parsed(last, self._output_cls)

    async def aover(self, responses: AsyncIterator[ChatResponse]) -> AsyncIterator[BaseModel]:
        """The same for a stream that is waited for."""
        last = None
        async for response in responses:
            last = response
            for found in self._partial(response):
                yield found
        assert last is not None
        yield parsed(last, self._output_cls)

    def _partial(self, response: ChatResponse) -> Iterator[BaseModel]:
        if response.raw is not None:  # the last, which is read whole
            return
        found = process_streaming_objects(response, self._output_cls, cur_objects=self._seen)
        if isinstance(found, BaseModel) and (self._seen is None or found != self._seen[0]):
            self._seen = [found]
            dispatcher.event(LLMStructuredPredictInProgressEvent(output=found))
            yield found
