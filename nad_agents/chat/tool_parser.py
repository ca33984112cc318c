"""Tool calls read from text, whole or growing, in whichever format a family of models writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from nad_agents.chat.parsed_answer import InvalidToolCall, ParsedAnswer, ToolCall, new_call_id
from nad_agents.chat.tool_arguments import ArgumentsError, fitting_arguments, named_arguments

__all__ = ["CALL_MARKS", "invalid_call", "parse_answer", "partial_tool_calls", "read_call", "stable_prefix"]

_TAG = "<tool_call>"

_REST_OF_TAG = re.compile(r"(.*?)(?:</tool_call>|(?=<tool_call>)|\Z)", re.DOTALL)
"""Text from the JSON of a tagged call, or from the tag itself where there is no JSON, to the end of the call."""

_MARKERS = ("[TOOL_CALLS]", "<|python_tag|>")
"""Marks that Mistral and Llama write before their calls."""

CALL_MARKS = (_TAG, "</tool_call>", *_MARKERS)
"""Texts by which families mark calls, some of which are special tokens."""

_INTRODUCTIONS = ("```json", "```tool_call", "```", *_MARKERS)
"""Texts that models put before the JSON of a call; they are not part of the answer's content."""

_MARK = re.compile("|".join(map(re.escape, (_TAG, *_MARKERS))))

_THINKING = re.compile(r"<(think|thinking|thought|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
"""Matches thinking that does not begin the answer, or is marked by a tag of another family."""

_BRACKET = re.compile(r"[{\[]")
_MOST_BRACKETS = 200
"""Largest number of brackets examined before a call; models never write more of them around a call."""

_NAME = re.compile(r'"name"\s*:\s*"([^"\\]*)"')

_ARGUMENTS = re.compile(r'"(?:arguments|parameters)"\s*:\s*')

_ARGUMENTS_BEGIN = re.compile(r'\s*"(?:arguments|parameters)"\s*:|\s*(?:"(?:argu|para)[a-z]*"?\s*|"[a-z]{0,3})\Z')
"""Text behind the name in a call that breaks off: the key of the arguments, or the beginning of the key."""

_MAYBE_CALL = re.compile(r"[{\[<`]")

_FENCE = re.compile(r"```(?:json|tool_call)?\s*")

_UNFINISHED_FENCES = ("```json", "```tool_call")

_BEFORE_NAME = (
    ("{", '"name"', ":"),
    ("{", '"function"', ":", "{", '"name"', ":"),
    ("{", '"type"', ":", '"function"', ",", '"name"', ":"),
    ("{", '"type"', ":", '"function"', ",", '"function"', ":", "{", '"name"', ":"),
)
"""Token sequences with which the JSON of a call may begin before the tool's name: the bare form, and OpenAI's."""

_UNREADABLE = (ValueError, RecursionError)
"""Exceptions of Python's JSON decoder: for syntax errors, integers of thousands of digits, nesting of thousands of
levels."""

_HEAD = re.compile(r'\{"name": ("(?:[^"\\]|\\.)*"), "(?:arguments|parameters)": ')
"""How a call begins where a grammar allows nothing else."""


def stable_prefix(text: str, names: Sequence[str]) -> str:
    """Return the beginning of an unfinished answer that is no part of a call, whatever follows.

    Args:
        text: The answer so far.
        names: Names of the tools on offer.
    """
    start = next((m.start() for m in _MAYBE_CALL.finditer(text) if _may_become_call(text[m.start() :], names)), None)
    return text[:start].rstrip()


def _may_become_call(text: str, names: Sequence[str]) -> bool:
    """Return whether text that begins with a bracket or a backtick may become a call as it grows."""
    if any(_agree(text, marker) for marker in (_TAG, *_MARKERS)):
        return True
    if any(fence.startswith(text) for fence in _UNFINISHED_FENCES):
        return True
    fence = _FENCE.match(text)
    rest = text[fence.end() :] if fence else text
    rest = rest.removeprefix("[").lstrip()
    return any(_may_name(rest, before, names) for before in _BEFORE_NAME)


def _may_name(text: str, before: Sequence[str], names: Sequence[str]) -> bool:
    """Return whether text may become JSON that names a tool after the tokens `before`."""
    for part in before:
        if not _agree(text, part):
            return False
        text = text[len(part) :].lstrip()
    return any(_agree(text, json.dumps(name, ensure_ascii=False)) for name in names)


def _agree(text: str, other: str) -> bool:
    """Return whether one of two texts begins with the other."""
    return text.startswith(other) or other.startswith(text)


def partial_tool_calls(text: str) -> list[tuple[str, str]]:
    """Return the name and the arguments so far of each call in an unfinished answer of forced calls.

    Args:
        text: The answer so far, which a grammar holds to calls.

    Returns:
        Name and JSON text of each call in order; the last one's arguments may be unfinished.
    """
    calls, end = [], 0
    while head := _HEAD.search(text, end):
        end = head.end() + _value_length(text[head.end() :])
        calls.append((str(json.loads(head[1])), text[head.end() : end]))
    return calls


def _value_length(text: str) -> int:
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


def parse_answer(
    text: str,
    names: Sequence[str],
    *,
    schemas: Mapping[str, Mapping[str, Any]] | None = None,
    marked: bool = False,
) -> ParsedAnswer:
    """Find the calls in an answer, in whichever format they are written.

    The text after a family's mark is a call; the call is invalid if its arguments do not fit the tool's schema. Bare
    JSON is a call only if it has no keys but those of a call, names an offered tool and has arguments that fit the
    tool's schema (see `fitting_arguments`); everything else stays content. Text within other JSON, or between the tags
    by which models mark their thinking, is never a call.

    Args:
        text: The answer, without the model's thinking.
        names: Names of the tools on offer.
        schemas: Schema of the arguments by the tool's name; tools without one take every argument.
        marked: Whether the model's family marks its calls, so that bare JSON counts only if it begins the answer.
    """
    schemas = schemas or {}
    bare, mark = _bare_call(text, names, schemas), _first_mark(text)
    if bare is not None and marked and _without_introductions(text[: bare[0]]):
        bare = None
    # a mark within the arguments of a bare call is text
    if mark is not None and (bare is None or not bare[0] < mark[0] < bare[1]):
        start, begin = mark
        if begin is None:
            return _parse_tagged(text, start, schemas)
        return ParsedAnswer.of_parts(_without_introductions(text[:start]), _parse_calls(text[begin:], schemas))
    if bare is None:
        return ParsedAnswer(text)
    calls = _parse_calls(text[bare[0] :], schemas, bare=True)
    return ParsedAnswer.of_parts(_without_introductions(text[: bare[0]]), calls)


def _without_introductions(content: str) -> str:
    content = content.rstrip()
    for introduction in _INTRODUCTIONS:
        content = content.removesuffix(introduction).rstrip()
    return content


def _first_mark(text: str) -> tuple[int, int | None] | None:
    """Return where a family's mark stands and where the calls behind it begin, None for a tag; None without a mark."""
    thinking = _thinking_spans(text)
    for found in _MARK.finditer(text):
        if not any(start < found.start() < end for start, end in thinking):
            return found.start(), None if found[0] == _TAG else found.end()
    return None


def _thinking_spans(text: str) -> list[tuple[int, int]]:
    """Return the spans of tagged thinking; a span without an end tag extends to the end of the text."""
    return [found.span() for found in _THINKING.finditer(text)]


def _bare_call(text: str, names: Sequence[str], schemas: Mapping[str, Mapping[str, Any]]) -> tuple[int, int] | None:
    """Return where the first unmarked call begins and ends."""
    named = "|".join(re.escape(json.dumps(name, ensure_ascii=False)) for name in names)
    before = "|".join(r"\s*".join(map(re.escape, parts)) for parts in _BEFORE_NAME)
    call, thinking, at = re.compile(rf"(?:\[\s*)?(?:{before})\s*(?:{named})\s*[,}}]"), _thinking_spans(text), 0
    while found := call.search(text, at):
        start = found.start()
        around = next((end for begin, end in thinking if begin < start < end), 0) or _end_of_json_around(
            text, at, start
        )
        if around:
            at = around
            continue
        try:
            value, end = _decode(text, start)
        except _UNREADABLE:
            # a call that breaks off is one if its arguments have begun
            if _ARGUMENTS_BEGIN.match(text, found.end()):
                return start, len(text)
            end = found.end()
        else:
            if _is_bare_call(value, schemas):
                return start, end
        # text inside JSON that is no call is no call either
        at = max(end, start + 1)
    return None


def _end_of_json_around(text: str, at: int, inner: int) -> int:
    """Return the end of the JSON value that begins before a position and ends after it; 0 if there is none."""
    for _ in range(_MOST_BRACKETS):
        bracket = _BRACKET.search(text, at, inner)
        if bracket is None:
            break
        try:
            _, at = _decode(text, bracket.start())
        except _UNREADABLE:
            at = bracket.end()
        if at > inner:
            return at
    return 0


def _is_bare_call(value: Any, schemas: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether a JSON value is a call, or a list that holds only calls."""
    if isinstance(value, list) and value:
        return all(isinstance(item, dict) and _is_bare_call(item, schemas) for item in value)
    if (
        isinstance(value, dict)
        and isinstance(value.get("function"), dict)
        and value.keys() <= {"id", "type", "function"}
    ):
        value = value["function"]
    if not isinstance(value, dict) or not value.keys() <= {"id", "type", "name", "arguments", "parameters"}:
        return False
    if len(value.keys() & {"arguments", "parameters"}) != 1:
        return False
    written = read_call(value)
    if isinstance(written, InvalidToolCall):
        return True
    fits = isinstance(read_call(value, schemas), ToolCall)
    return fits and named_arguments(written.arguments, schemas.get(written.name, {}))


def _parse_tagged(text: str, start: int, schemas: Mapping[str, Mapping[str, Any]]) -> ParsedAnswer:
    """Parse an answer with calls between tags, given the first tag; a tag within a call's arguments is text."""
    content, calls, at = text[:start], list[ToolCall | InvalidToolCall](), start
    while (tag := text.find(_TAG, at)) >= 0:
        content, begin = content + text[at:tag], tag + len(_TAG)
        try:
            _, at = _decode(text, len(text) - len(text[begin:].lstrip()))
        except _UNREADABLE:
            at = begin
        rest = _REST_OF_TAG.match(text, at)
        assert rest is not None
        calls += _parse_calls(text[begin : rest.end(1)], schemas)
        at = rest.end()
    return ParsedAnswer.of_parts((content + text[at:]).rstrip(), calls)


def _parse_calls(
    body: str, schemas: Mapping[str, Mapping[str, Any]], *, bare: bool = False
) -> list[ToolCall | InvalidToolCall]:
    """Read calls that are written as JSON one after the other; prose after them is dropped.

    Args:
        body: The text from the first call on.
        schemas: Schema of the arguments by the tool's name.
        bare: Whether the calls have no mark before them, so that JSON which is not a call ends them.
    """
    found: list[ToolCall | InvalidToolCall] = []
    # a list is read item by item, so that an incomplete list still yields its first calls
    at = _between_calls(body, 0)
    while at < len(body) and (not found or body[at] == "{"):
        try:
            value, end = _decode(body, at)
        except _UNREADABLE:
            break
        if bare and not _is_bare_call(value, schemas):
            return found
        found.append(read_call(value, schemas, written=body[at:end]))
        at = _between_calls(body, end)
    if not found or body[at:].startswith("{"):
        found.append(invalid_call(body[at:], "the JSON breaks off or is malformed"))
    return found


def _between_calls(text: str, at: int) -> int:
    """Return where the next call begins, after list brackets, separators and white space."""
    while at < len(text) and text[at] in " \t\r\n,;[]":
        at += 1
    return at


def _decode(text: str, at: int) -> tuple[Any, int]:
    """Return the JSON value at a position of a text, and its end; raise an exception of `_UNREADABLE` without one."""
    return json.JSONDecoder(strict=False).raw_decode(text, at)


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
        except _UNREADABLE:
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
        return written[key.end() :][: _value_length(written[key.end() :])] if key else written


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
        text = arguments[: _value_length(arguments)]
    return InvalidToolCall(new_call_id(), named[1] if named else name, text, error)
