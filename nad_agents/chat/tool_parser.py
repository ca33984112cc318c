"""Tool calls read from a whole answer, in whichever format a family of models writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from nad_agents.chat.parsed_answer import InvalidToolCall, ParsedAnswer, ToolCall
from nad_agents.chat.tool_arguments import named_arguments
from nad_agents.chat.tool_call_json import BEFORE_NAME, UNREADABLE, decode_json, invalid_call, read_call
from nad_agents.chat.tool_formats import CALL_MARKERS, CALL_TAG

__all__ = ["parse_answer"]

_REST_OF_TAG = re.compile(r"(.*?)(?:</tool_call>|(?=<tool_call>)|\Z)", re.DOTALL)
"""Text from the JSON of a tagged call, or from the tag itself where there is no JSON, to the end of the call."""

_INTRODUCTIONS = ("```json", "```tool_call", "```", *CALL_MARKERS)
"""Texts that models put before the JSON of a call; they are not part of the answer's content."""

_MARK = re.compile("|".join(map(re.escape, (CALL_TAG, *CALL_MARKERS))))

_THINKING = re.compile(r"<(think|thinking|thought|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
"""Matches thinking that does not begin the answer, or is marked by a tag of another family."""

_BRACKET = re.compile(r"[{\[]")
_MOST_BRACKETS = 200
"""Largest number of brackets examined before a call; models never write more of them around a call."""

_ARGUMENTS_BEGIN = re.compile(r'\s*"(?:arguments|parameters)"\s*:|\s*(?:"(?:argu|para)[a-z]*"?\s*|"[a-z]{0,3})\Z')
"""Text behind the name in a call that breaks off: the key of the arguments, or the beginning of the key."""


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
            return found.start(), None if found[0] == CALL_TAG else found.end()
    return None


def _thinking_spans(text: str) -> list[tuple[int, int]]:
    """Return the spans of tagged thinking; a span without an end tag extends to the end of the text."""
    return [found.span() for found in _THINKING.finditer(text)]


def _bare_call(text: str, names: Sequence[str], schemas: Mapping[str, Mapping[str, Any]]) -> tuple[int, int] | None:
    """Return where the first unmarked call begins and ends."""
    named = "|".join(re.escape(json.dumps(name, ensure_ascii=False)) for name in names)
    before = "|".join(r"\s*".join(map(re.escape, parts)) for parts in BEFORE_NAME)
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
            value, end = decode_json(text, start)
        except UNREADABLE:
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
            _, at = decode_json(text, bracket.start())
        except UNREADABLE:
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
    while (tag := text.find(CALL_TAG, at)) >= 0:
        content, begin = content + text[at:tag], tag + len(CALL_TAG)
        try:
            _, at = decode_json(text, len(text) - len(text[begin:].lstrip()))
        except UNREADABLE:
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
            value, end = decode_json(body, at)
        except UNREADABLE:
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
