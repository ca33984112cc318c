"""Tool calls as text: how each family of models writes them, and reading them back."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "InvalidToolCall",
    "ParsedAnswer",
    "ToolCall",
    "invalid_call",
    "new_call_id",
    "parse_answer",
    "partial_tool_calls",
    "read_call",
    "sorted_calls",
    "stable_prefix",
]


@dataclass(frozen=True)
class ToolCall:
    """A tool call that can be made.

    Attributes:
        id: an identifier that no other call has.
        name: name of the tool.
        arguments: the arguments as the model wrote them, parsed.
    """

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class InvalidToolCall:
    """Text that was meant as a tool call and cannot be read as one.

    Attributes:
        id: an identifier that no other call has.
        name: name of the tool, None where the text does not say it.
        text: what the model wrote: the arguments where the name is known, else the whole call.
        error: why it cannot be read.
    """

    id: str
    name: str | None
    text: str
    error: str


@dataclass(frozen=True)
class ParsedAnswer:
    """An answer taken apart.

    Attributes:
        content: its text without the calls.
        calls: valid calls.
        invalid: what was meant as a call and cannot be read.
        thinking: what the model wrote for itself before the answer.
    """

    content: str
    calls: tuple[ToolCall, ...] = ()
    invalid: tuple[InvalidToolCall, ...] = ()
    thinking: str = ""


_TAG, _TAG_END = "<tool_call>", "</tool_call>"

_BROKEN = re.compile(r"(.*?)(?:</tool_call>|(?=<tool_call>)|\Z)", re.DOTALL)
"""What is between tags and no JSON."""

_MARKS = ("[TOOL_CALLS]", "<|python_tag|>")

_OPENINGS = ("```json", "```tool_call", "```", *_MARKS)
"""What models put before JSON; it is no part of the answer's text."""

_NAME = re.compile(r'"name"\s*:\s*"([^"\\]*)"')

_MAYBE_CALL = re.compile(r"[{\[<`]")

_FENCE = re.compile(r"```(?:json|tool_call)?\s*")

_UNFINISHED_FENCES = ("```json", "```tool_call")

_BEFORE_NAME = (
    ("{", '"name"', ":"),
    ("{", '"function"', ":", "{", '"name"', ":"),
    ("{", '"type"', ":", '"function"', ",", '"name"', ":"),
    ("{", '"type"', ":", '"function"', ",", '"function"', ":", "{", '"name"', ":"),
)
"""How JSON of a call begins: with the name, or as OpenAI has it."""

_HEAD = re.compile(r'\{"name": ("(?:[^"\\]|\\.)*"), "(?:arguments|parameters)": ')
"""How a call begins that a grammar holds."""


def stable_prefix(text: str, names: Sequence[str]) -> str:
    """The beginning of an unfinished answer that is no part of a call, whatever follows.

    Args:
        text: the answer so far.
        names: the tools on offer.
    """
    start = next((m.start() for m in _MAYBE_CALL.finditer(text) if _may_become_call(text[m.start() :], names)), None)
    return text[:start].rstrip()


def _may_become_call(text: str, names: Sequence[str]) -> bool:
    """Whether text that begins with a bracket or a backtick may be the beginning of a call."""
    if any(_agree(text, mark) for mark in ("<tool_call>", *_MARKS)):
        return True
    if any(mark.startswith(text) for mark in _UNFINISHED_FENCES):
        return True
    fence = _FENCE.match(text)
    rest = text[fence.end() :] if fence else text
    rest = rest.removeprefix("[").lstrip()
    return any(_may_name(rest, before, names) for before in _BEFORE_NAME)


def _may_name(text: str, before: Sequence[str], names: Sequence[str]) -> bool:
    for part in before:
        if not _agree(text, part):
            return False
        text = text[len(part) :].lstrip()
    return any(_agree(text, json.dumps(name, ensure_ascii=False)) for name in names)


def _agree(text: str, other: str) -> bool:
    """Whether one of two texts begins with the other."""
    return text.startswith(other) or other.startswith(text)


def partial_tool_calls(text: str) -> list[tuple[str, str]]:
    """Name and arguments of each call in an unfinished answer that a grammar holds to calls; the last may grow."""
    found, end = [], 0
    while head := _HEAD.search(text, end):
        end = head.end() + _value_length(text[head.end() :])
        found.append((str(json.loads(head[1])), text[head.end() : end]))
    return found


def _value_length(text: str) -> int:
    """Length of the JSON object at the beginning of a text, or of what there is of it."""
    depth, inside, escaped = 0, False, False
    for i, char in enumerate(text):
        if inside:
            inside = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            inside = True
        elif char in "{[":
            depth += 1
        elif char in "}]":
            depth -= 1
            if depth == 0:
                return i + 1
    return len(text)


def parse_answer(text: str, names: Sequence[str]) -> ParsedAnswer:
    """Find the calls in an answer, in whichever format they are written.

    Args:
        text: the answer.
        names: the tools on offer; bare JSON counts as a call only when it names one of them.
    """
    start, tag = _first_call(text, names), text.find(_TAG)
    if tag >= 0 and (start is None or tag < start):
        return _tagged(text)
    if start is None:
        return ParsedAnswer(text)
    content, rest = text[:start].rstrip(), text[start:]
    for mark in _OPENINGS:
        content = content.removesuffix(mark).rstrip()
    return sorted_calls(content, _parse_calls(rest))


def _first_call(text: str, names: Sequence[str]) -> int | None:
    """Where a call in bare JSON begins: at a mark of the family, or wherever a tool on offer is named."""
    named = "|".join(re.escape(json.dumps(name, ensure_ascii=False)) for name in names)
    before = "|".join(r"\s*".join(map(re.escape, parts)) for parts in _BEFORE_NAME)
    found = re.search(rf"(?:\[\s*)?(?:{before})\s*(?:{named})\s*[,}}]", text)
    # whatever comes first: the others may be in its arguments
    starts = [(at, at + len(mark)) for mark in _MARKS if (at := text.find(mark)) >= 0]
    starts += [(found.start(), found.start())] if found else []
    return min(starts)[1] if starts else None


def _tagged(text: str) -> ParsedAnswer:
    """Calls between tags; a tag in the arguments of one is text."""
    content, calls, at = "", list[ToolCall | InvalidToolCall](), 0
    while (tag := text.find(_TAG, at)) >= 0:
        content, begin = content + text[at:tag], tag + len(_TAG)
        try:
            _, length = json.JSONDecoder(strict=False).raw_decode(text[begin:].lstrip())
            at = len(text) - len(text[begin:].lstrip()) + length
        except json.JSONDecodeError:
            at = begin
        broken = _BROKEN.match(text, at)
        assert broken is not None
        calls += _parse_calls(text[begin : broken.end(1)])
        at = broken.end()
    return sorted_calls((content + text[at:]).rstrip(), calls)


def sorted_calls(content: str, calls: Sequence[ToolCall | InvalidToolCall], thinking: str = "") -> ParsedAnswer:
    """An answer of these parts, its calls sorted into those that can be made and those that cannot."""
    valid = tuple(call for call in calls if isinstance(call, ToolCall))
    invalid = tuple(call for call in calls if isinstance(call, InvalidToolCall))
    return ParsedAnswer(content, valid, invalid, thinking)


def _parse_calls(body: str) -> list[ToolCall | InvalidToolCall]:
    """Calls written as JSON one after the other; prose after them is not read."""
    decoder, text, at = json.JSONDecoder(strict=False), body.strip(), 0
    found: list[ToolCall | InvalidToolCall] = []
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            break
        found += [read_call(item) for item in (value if isinstance(value, list) else [value])]
        while at < len(text) and text[at] in " \t\r\n,;":
            at += 1
    if not found or text[at:].startswith(("{", "[")):
        found.append(invalid_call(text[at:], "the JSON breaks off or is malformed"))
    return found


def read_call(value: Any) -> ToolCall | InvalidToolCall:
    """A call of a name and arguments, which are an object or its JSON; as OpenAI has it, or without the frame."""
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    written = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return invalid_call(written, "a call needs a name")
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except json.JSONDecodeError:
            return invalid_call(arguments, "the arguments are no JSON", value["name"])
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        return invalid_call(json.dumps(arguments), "the arguments are no JSON object", value["name"])
    return ToolCall(new_call_id(), value["name"], arguments)


def invalid_call(text: str, error: str, name: str | None = None) -> InvalidToolCall:
    """What was meant as a call, and why it is none; its name is looked for in the text unless it is known."""
    named = _NAME.search(text) if name is None else None
    return InvalidToolCall(new_call_id(), named[1] if named else name, text, error)


def new_call_id() -> str:
    """An identifier that no other call has."""
    return f"call_{uuid.uuid4().hex[:24]}"
