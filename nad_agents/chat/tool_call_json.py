"""One tool call as JSON: how it begins, where it ends, and reading it into a `ToolCall`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from nad_agents.chat.parsed_answer import InvalidToolCall, ToolCall, new_call_id
from nad_agents.chat.tool_arguments import ArgumentsError, fitting_arguments

__all__ = ["BEFORE_NAME", "UNREADABLE", "decode_json", "invalid_call", "read_call", "value_length"]

BEFORE_NAME = (
    ("{", '"name"', ":"),
    ("{", '"function"', ":", "{", '"name"', ":"),
    ("{", '"type"', ":", '"function"', ",", '"name"', ":"),
    ("{", '"type"', ":", '"function"', ",", '"function"', ":", "{", '"name"', ":"),
)
"""Token sequences with which the JSON of a call may begin before the tool's name: the bare form, and OpenAI's."""

UNREADABLE = (ValueError, RecursionError)
"""Exceptions of Python's JSON decoder: for syntax errors, integers of thousands of digits, nesting of thousands of
levels."""

_NAME = re.compile(r'"name"\s*:\s*"([^"\\]*)"')

_ARGUMENTS = re.compile(r'"(?:arguments|parameters)"\s*:\s*')


def decode_json(text: str, at: int) -> tuple[Any, int]:
    """Return the JSON value at a position of a text, and the position of its end.

    Args:
        text: Text that holds JSON.
        at: Position at which the value begins.

    Raises:
        ValueError: There is no JSON value at the position.
        RecursionError: The value is nested too deeply.
    """
    return json.JSONDecoder(strict=False).raw_decode(text, at)


def value_length(text: str) -> int:
    """Return the length of the JSON object that a text begins with, or of the unfinished one that it is."""
    depth, in_string, escaped = 0, False, False
    for i, char in enumerate(text):
        if in_string:
            in_string = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            in_string = True
        elif char in "{[":
            depth += 1
        elif char in "}]":
            depth -= 1
            if depth == 0:
                return i + 1
    return len(text)


def read_call(
    value: Any, schemas: Mapping[str, Mapping[str, Any]] | None = None, *, written: str = ""
) -> ToolCall | InvalidToolCall:
    """Read one call from parsed JSON.

    Args:
        value: An object with a name, and arguments as an object or as its JSON; or OpenAI's form, which has that object
            under "function".
        schemas: Schema of the arguments by the tool's name, which the arguments have to fit; tools without one take
            every argument.
        written: The JSON as the model wrote it, if that is known.

    Returns:
        The call, or why it cannot be made.
    """
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return invalid_call(json.dumps(value, ensure_ascii=False), "a call needs a name")
    name, arguments = value["name"], value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        written = arguments
        try:
            arguments = json.loads(arguments)
        except UNREADABLE:
            return invalid_call(written, "the arguments are no JSON", name)
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        return invalid_call(json.dumps(arguments), "the arguments are no JSON object", name)
    if schemas is None:
        return ToolCall(new_call_id(), name, arguments)
    try:
        return ToolCall(new_call_id(), name, fitting_arguments(arguments, schemas.get(name, {})))
    except ArgumentsError as error:
        return invalid_call(_written_arguments(arguments, written), str(error), name)


def _written_arguments(arguments: dict[str, Any], written: str) -> str:
    """Return arguments as JSON, and as the model wrote them if a number such as 1e9999 is infinite in Python.

    Args:
        arguments: The arguments.
        written: The call or its arguments as the model wrote them; empty if unknown.
    """
    try:
        return json.dumps(arguments, ensure_ascii=False, allow_nan=not written)
    except ValueError:
        key = _ARGUMENTS.search(written)
        return written[key.end() :][: value_length(written[key.end() :])] if key else written


def invalid_call(text: str, error: str, name: str | None = None) -> InvalidToolCall:
    """Return text that was meant as a call and cannot be read as one.

    Args:
        text: The model's text.
        error: Why the text cannot be read.
        name: Name of the tool; it is looked for in the text when left out.
    """
    named = _NAME.search(text) if name is None else None
    if named is not None:
        # a caller may be able to use arguments that break off, but not the call around them
        begin = _ARGUMENTS.search(text, named.end()) or _ARGUMENTS.search(text, 0, named.start())
        arguments = text[begin.end() :] if begin else ""
        text = arguments[: value_length(arguments)]
    return InvalidToolCall(new_call_id(), named[1] if named else name, text, error)
