"""`with_structured_output`: a chain whose answers fit a schema, since the grammar allows nothing else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from functools import reduce
from operator import add
from typing import Any, Literal, Protocol, get_args

from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.output_parsers import BaseCumulativeTransformOutputParser, JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema
from langchain_core.utils.pydantic import is_basemodel_subclass

from langchain_nad.tools import openai_tools
from nad_agents.exceptions import ConfigurationError

__all__ = ["StructuredMethod", "WholeJson", "WholeModel", "WholeToolArguments", "WholeToolModel", "structured_output"]


StructuredMethod = Literal["json_schema", "function_calling", "json_mode"]
"""How the schema reaches the model: in the system message, as a tool, or not at all. The grammar holds it each time."""


class BindableModel(Protocol):
    """A chat model as far as `structured_output` needs one."""

    def bind(self, **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        """Return the model with arguments that hold for each call."""
        ...


def structured_output(
    chat: BindableModel,
    schema: dict[str, Any] | type,
    *,
    method: StructuredMethod,
    include_raw: bool,
    strict: bool | None,
    options: dict[str, Any],
) -> Runnable[Any, Any]:
    """The chain of model and parser.

    Args:
        chat: the model.
        schema: a pydantic class (v1 or v2), a TypedDict, a JSON schema, or a tool in OpenAI's form.
        method: see `StructuredMethod`.
        include_raw: give ``raw``, ``parsed`` and ``parsing_error`` instead of the object.
        strict: passed on with the schema; every schema is enforced.
        options: further arguments of each call.

    Raises:
        ConfigurationError: no schema, or an unknown method.
    """
    if method not in get_args(StructuredMethod):
        msg = f"method={method!r} is unknown; choose one of {', '.join(get_args(StructuredMethod))}"
        raise ConfigurationError(msg)
    model: Any = schema if isinstance(schema, type) and is_basemodel_subclass(schema) else None
    traced = {"ls_structured_output_format": {"kwargs": {"method": method, "strict": strict}, "schema": schema}}
    bound: Runnable[Any, Any]
    parser: Any
    try:
        if method == "function_calling":
            tools = openai_tools([schema], strict=strict)
            name = tools[0]["function"]["name"]
            bound = chat.bind(tools=tools, tool_choice=name, strict=strict, **traced, **options)
            parser = (
                WholeToolModel(tools=[model], first_tool_only=True)
                if model is not None
                else WholeToolArguments(key_name=name, first_tool_only=True)
            )
        else:
            bound = chat.bind(response_format=_response_format(schema, method, strict), **traced, **options)
            parser = WholeModel(pydantic_object=model) if model is not None else WholeJson()
    except (TypeError, ValueError) as error:
        msg = f"{schema!r} is no schema: {error}; give a pydantic class, a TypedDict or a JSON schema with a title"
        raise ConfigurationError(msg) from error
    if not include_raw:
        chain: Runnable[Any, Any] = bound | parser
        return chain
    # passed through, the message streams while it is written; what is made of it comes at the end
    return RunnableMap(raw=bound) | RunnablePassthrough.assign(
        parsed=lambda found: _outcome(parser, found["raw"])[0],
        parsing_error=lambda found: _outcome(parser, found["raw"])[1],
    )


def _outcome(parser: Runnable[Any, Any], message: AIMessage) -> tuple[Any, Exception | None]:
    """The object, or why there is none."""
    try:
        return parser.invoke(message), None
    except Exception as error:  # noqa: BLE001 - a validator of the caller's class may raise anything
        return None, error


def _response_format(schema: dict[str, Any] | type, method: StructuredMethod, strict: bool | None) -> dict[str, Any]:
    converted = convert_to_json_schema(schema)
    if method == "json_mode":
        # the model is told what to write by the user's own words
        return {"type": "json_object", "schema": converted}
    name = converted.get("title", "answer")
    return {"type": "json_schema", "json_schema": {"name": name, "schema": converted, "strict": strict}}


class _Whole(BaseCumulativeTransformOutputParser[Any]):
    """Checks what is no longer partial, and the last state of a stream."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """The object; partial ones while it is streamed.

        Raises:
            OutputParserException: the answer holds no whole object.
        """
        if not partial:
            self.check(result[0])
        return super().parse_result(result, partial=partial)

    def check(self, generation: Generation) -> None:
        """Raise OutputParserException unless the answer holds a whole object."""
        raise NotImplementedError

    def _transform(self, input: Iterator[str | BaseMessage]) -> Iterator[Any]:  # noqa: A002 - the name of the base
        seen: list[Any] = []

        def watched() -> Iterator[str | BaseMessage]:
            for chunk in input:
                seen.append(chunk)
                yield chunk

        yield from super()._transform(watched())
        self._check_last(seen)

    async def _atransform(self, input: AsyncIterator[str | BaseMessage]) -> AsyncIterator[Any]:  # noqa: A002 - as above
        seen: list[Any] = []

        async def watched() -> AsyncIterator[str | BaseMessage]:
            async for chunk in input:
                seen.append(chunk)
                yield chunk

        async for parsed in super()._atransform(watched()):
            yield parsed
        self._check_last(seen)

    def _check_last(self, seen: list[Any]) -> None:
        if seen:
            self.parse_result([ChatGeneration(message=reduce(add, seen))])


def _broken(generation: Generation, what: str, text: str) -> OutputParserException:
    message = generation.message if isinstance(generation, ChatGeneration) else None
    reason = message.response_metadata.get("finish_reason") if message is not None else None
    return OutputParserException(
        f"the answer holds no whole {what} (finish_reason={reason!r}): {text}; "
        "raise max_tokens, or leave out stop strings that an answer may contain",
        llm_output=text,
    )


class _WholeText(_Whole):
    def check(self, generation: Generation) -> None:
        """Raise OutputParserException unless the text is JSON from beginning to end."""
        try:
            json.loads(generation.text)
        except ValueError as error:
            raise _broken(generation, "JSON", generation.text) from error


class _WholeCall(_Whole):
    def check(self, generation: Generation) -> None:
        """Raise OutputParserException unless there is a call."""
        message = generation.message if isinstance(generation, ChatGeneration) else None
        if not isinstance(message, AIMessage) or not message.tool_calls:
            invalid = [call["args"] or "" for call in getattr(message, "invalid_tool_calls", ())]
            raise _broken(generation, "call", " ".join(invalid) or generation.text)


class WholeJson(_WholeText, JsonOutputParser):
    """The JSON of an answer."""


class WholeModel(_WholeText, PydanticOutputParser[Any]):
    """The JSON of an answer as an object of a pydantic class."""


class WholeToolArguments(_WholeCall, JsonOutputKeyToolsParser):
    """The arguments of a call."""


class WholeToolModel(_WholeCall, PydanticToolsParser):
    """The arguments of a call as an object of a pydantic class."""
