"""Tool calls in an answer that still grows: the text that is certainly no call, and the calls so far."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from nad_agents.chat.tool_call_json import BEFORE_NAME, value_length
from nad_agents.chat.tool_formats import CALL_MARKERS, CALL_TAG

__all__ = ["partial_tool_calls", "stable_prefix"]

_MAYBE_CALL = re.compile(r"[{\[<`]")

_FENCE = re.compile(r"```(?:json|tool_call)?\s*")

_UNFINISHED_FENCES = ("```json", "```tool_call")

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
    if any(_agree(text, marker) for marker in (CALL_TAG, *CALL_MARKERS)):
        return True
    if any(fence.startswith(text) for fence in _UNFINISHED_FENCES):
        return True
    fence = _FENCE.match(text)
    rest = text[fence.end() :] if fence else text
    rest = rest.removeprefix("[").lstrip()
    return any(_may_name(rest, before, names) for before in BEFORE_NAME)


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
        end = head.end() + value_length(text[head.end() :])
        calls.append((str(json.loads(head[1])), text[head.end() : end]))
    return calls
