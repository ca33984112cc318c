"""Parsers that give an object only when the answer holds a whole one, and say so otherwise.

Those of langchain-core complete JSON that breaks off, give None where there is no call, and check nothing at the end of
a stream. A grammar brings every answer to its end, but a stop string may cut it, or a pattern without a way that fits.
"""

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
