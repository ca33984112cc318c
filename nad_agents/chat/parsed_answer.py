"""`ParsedAnswer`: an answer taken apart into content, thinking and tool calls."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["InvalidToolCall", "ParsedAnswer", "ToolCall", "new_call_id"]


@dataclass(frozen=True)
class ToolCall:
    """A tool call that can be made.

    Attributes:
        id: An identifier that no other call has.
        name: Name of the tool.
        arguments: The arguments, parsed.
    """

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class InvalidToolCall:
    """A tool call that cannot be made: its text cannot be parsed, or its arguments do not fit the tool's schema.

    Attributes:
        id: An identifier that no other call has.
        name: Name of the tool; None where the text does not say it.
        text: The model's text: the arguments where the name is known, else the whole call.
        error: Why the call cannot be made.
    """

    id: str
    name: str | None
    text: str
    error: str


@dataclass(frozen=True)
class ParsedAnswer:
    """An answer taken apart.

    Attributes:
        content: The text without calls and thinking.
        calls: Tool calls that can be made.
        invalid: Calls that cannot be made.
        thinking: The model's reasoning before the answer.
    """

    content: str
    calls: tuple[ToolCall, ...] = ()
    invalid: tuple[InvalidToolCall, ...] = ()
    thinking: str = ""

    @classmethod
    def of_parts(cls, content: str, calls: Sequence[ToolCall | InvalidToolCall], thinking: str = "") -> ParsedAnswer:
        """Return an answer of these parts, its calls sorted into valid and invalid ones."""
        valid = tuple(call for call in calls if isinstance(call, ToolCall))
        invalid = tuple(call for call in calls if isinstance(call, InvalidToolCall))
        return cls(content, valid, invalid, thinking)

    def finish_reason(self, ended: str) -> str:
        """Return why the answer ended, in OpenAI's words; a call that the token limit truncated is not a finished call.

        Args:
            ended: Why the text ended: "stop", or "length" for the token limit.
        """
        if ended == "length" and self.invalid:
            return "length"
        return "tool_calls" if self.calls else ended


def new_call_id() -> str:
    """Return an identifier that no other tool call has."""
    return f"call_{uuid.uuid4().hex[:24]}"
