"""Output parsers that refuse an answer which breaks off, where LangChain's own would complete it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from functools import reduce
from operator import add
from typing import Any

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.output_parsers import BaseCumulativeTransformOutputParser, JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.outputs import ChatGeneration, Generation

__all__ = ["WholeJson", "WholeModel", "WholeToolArguments", "WholeToolModel"]


class _WholeParser(BaseCumulativeTransformOutputParser[Any]):
    """A parser that checks a whole answer, and a streamed one once it has ended."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Return the object of an answer; a partial object of an unfinished answer.

        Args:
            result: The answer as the only element.
            partial: Whether the answer is unfinished.

        Raises:
            OutputParserException: The answer is finished and holds no whole object.
        """
        if not partial:
            self.check(result[0])
        return super().parse_result(result, partial=partial)

    def check(self, generation: Generation) -> None:
        """Raise OutputParserException unless an answer holds a whole object.

        Args:
            generation: The finished answer.
        """
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


def _parser_error(generation: Generation, expected: str, text: str) -> OutputParserException:
    message = generation.message if isinstance(generation, ChatGeneration) else None
    reason = message.response_metadata.get("finish_reason") if message is not None else None
    return OutputParserException(
        f"the answer holds no whole {expected} (finish_reason={reason!r}): {text}; "
        "raise max_tokens, or leave out stop strings that an answer may contain",
        llm_output=text,
    )


class _JsonText(_WholeParser):
    def check(self, generation: Generation) -> None:
        """Raise OutputParserException unless the text of an answer is JSON from beginning to end."""
        try:
            json.loads(generation.text)
        except ValueError as error:
            raise _parser_error(generation, "JSON", generation.text) from error


class _JsonCall(_WholeParser):
    def check(self, generation: Generation) -> None:
        """Raise OutputParserException unless an answer calls a tool."""
        message = generation.message if isinstance(generation, ChatGeneration) else None
        if not isinstance(message, AIMessage) or not message.tool_calls:
            invalid = [call["args"] or "" for call in getattr(message, "invalid_tool_calls", ())]
            raise _parser_error(generation, "call", " ".join(invalid) or generation.text)


class WholeJson(_JsonText, JsonOutputParser):
    """Parses an answer in JSON into plain data."""


class WholeModel(_JsonText, PydanticOutputParser[Any]):
    """Parses an answer in JSON into an object of a pydantic class."""


class WholeToolArguments(_JsonCall, JsonOutputKeyToolsParser):
    """Parses an answer that calls a tool into the call's arguments."""


class WholeToolModel(_JsonCall, PydanticToolsParser):
    """Parses an answer that calls a tool into an object of a pydantic class."""
