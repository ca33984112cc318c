"""Tool calls read from text, whole or growing, in whichever format a family of models writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from nad_agents.chat.parsed_answer import InvalidToolCall, ParsedAnswer, ToolCall, new_call_id

__all__ = ["invalid_call", "parse_answer", "partial_tool_calls", "read_call", "stable_prefix"]

_TAG = "<tool_call>"

_REST_OF_TAG = re.compile(r"(.*?)(?:</tool_call>|(?=<tool_call>)|\Z)", re.DOTALL)
"""What stands between the JSON of a tagged call, or the tag itself where there is no JSON, and the end of the call."""

_MARKERS = ("[TOOL_CALLS]", "<|python_tag|>")
"""What Mistral and Llama write before their calls."""

_INTRODUCTIONS = ("```json", "```tool_call", "```", *_MARKERS)
"""What models put before the JSON of a call; it is no part of the answer's content."""

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
"""What the JSON of a call may begin with before the tool's name: the bare form, and OpenAI's."""

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
    """Whether text that begins with a bracket or a backtick may become a call as it grows."""
    if any(_agree(text, marker) for marker in (_TAG, *_MARKERS)):
        return True
    if any(fence.startswith(text) for fence in _UNFINISHED_FENCES):
        return True
    fence = _FENCE.match(text)
    rest = text[fence.end() :] if fence else text
    rest = rest.removeprefix("[").lstrip()
    return any(_may_name(rest, before, names) for before in _BEFORE_NAME)


def _may_name(text: str, before: Sequence[str], names: Sequence[str]) -> bool:
    """Whether text may become JSON that names a tool after the tokens `before`."""
    for part in before:
        if not _agree(text, part):
            return False
        text = text[len(part) :].lstrip()
    return any(_agree(text, json.dumps(name, ensure_ascii=False)) for name in names)


def _agree(text: str, other: str) -> bool:
    """Whether one of two texts begins with the other."""
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


def parse_answer(text: str, names: Sequence[str]) -> ParsedAnswer:
    """Find the calls in an answer, in whichever format they are written.

    Args:
        text: The answer.
        names: Names of the tools on offer; bare JSON counts as a call only when it names one of them.
    """
    start, tag = _first_call(text, names), text.find(_TAG)
    if tag >= 0 and (start is None or tag < start):
        return _parse_tagged(text)
    if start is None:
        return ParsedAnswer(text)
    content, rest = text[:start].rstrip(), text[start:]
    for introduction in _INTRODUCTIONS:
        content = content.removesuffix(introduction).rstrip()
    return ParsedAnswer.of_parts(content, _parse_calls(rest))


def _first_call(text: str, names: Sequence[str]) -> int | None:
    """Return where untagged calls begin: behind a family's marker, or at JSON that names a tool on offer."""
    named = "|".join(re.escape(json.dumps(name, ensure_ascii=False)) for name in names)
    before = "|".join(r"\s*".join(map(re.escape, parts)) for parts in _BEFORE_NAME)
    found = re.search(rf"(?:\[\s*)?(?:{before})\s*(?:{named})\s*[,}}]", text)
    # the first one counts, since the others may be in its arguments
    starts = [(at, at + len(marker)) for marker in _MARKERS if (at := text.find(marker)) >= 0]
    starts += [(found.start(), found.start())] if found else []
    return min(starts)[1] if starts else None


def _parse_tagged(text: str) -> ParsedAnswer:
    """Parse an answer with calls between tags; a tag within the arguments of a call is text."""
    content, calls, at = "", list[ToolCall | InvalidToolCall](), 0
    while (tag := text.find(_TAG, at)) >= 0:
        content, begin = content + text[at:tag], tag + len(_TAG)
        try:
            _, length = json.JSONDecoder(strict=False).raw_decode(text[begin:].lstrip())
            at = len(text) - len(text[begin:].lstrip()) + length
        except json.JSONDecodeError:
            at = begin
        rest = _REST_OF_TAG.match(text, at)
        assert rest is not None
        calls += _parse_calls(text[begin : rest.end(1)])
        at = rest.end()
    return ParsedAnswer.of_parts((content + text[at:]).rstrip(), calls)


def _parse_calls(body: str) -> list[ToolCall | InvalidToolCall]:
    """Read calls that are written as JSON one after the other; prose after them is dropped."""
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
    """Read one call from parsed JSON.

    Args:
        value: An object with a name, and arguments as an object or as its JSON; or OpenAI's form, which has that object
            under "function".

    Returns:
        The call, or why it cannot be made.
    """
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
    """Return text that was meant as a call and cannot be read as one.

    Args:
        text: What the model wrote.
        error: Why the text cannot be read.
        name: Name of the tool; it is looked for in the text when left out.
    """
    named = _NAME.search(text) if name is None else None
    return InvalidToolCall(new_call_id(), named[1] if named else name, text, error)
