"""Messages as clients send them, to what chat templates take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from nad_server.errors import APIError
from nad_server.wire import ChatMessage, ContentPart

__all__ = ["plain_text", "template_messages"]

_TEXTS = {"text", "input_text", "output_text"}
_SILENT = {"refusal", "reasoning", "thinking"}
"""Parts of an earlier answer that the model does not read again."""


def template_messages(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """Role and text, with the arguments of tool calls as objects.

    Raises:
        APIError: a message holds something other than text, or lacks what its role needs.
    """
    found = []
    for i, message in enumerate(messages):
        where = f"messages.{i}"
        role = "system" if message.role == "developer" else message.role
        one: dict[str, Any] = {
            "role": role,
            "content": plain_text(message.content, f"{where}.content", answer=role == "assistant"),
        }
        if message.name is not None:
            one["name"] = message.name
        if message.tool_calls and role == "assistant":
            one["tool_calls"] = [
                {
                    "id": call.id or f"call_{i}_{k}",
                    "type": "function",
                    "function": {
                        "name": call.function.name,
                        "arguments": _arguments(call.function.arguments),
                    },
                }
                for k, call in enumerate(message.tool_calls)
            ]
        elif message.content is None:
            raise APIError(400, f"{where} has no content", code="invalid_value", param=f"{where}.content")
        if role == "tool":
            one["tool_call_id"] = message.tool_call_id or ""
        found.append(one)
    return found


def plain_text(content: str | list[ContentPart] | None, where: str, *, answer: bool) -> str:
    """The text of a message.

    Args:
        content: text, or parts.
        where: its place in the request.
        answer: whether the model wrote it.

    Raises:
        APIError: a part is no text.
    """
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for k, part in enumerate(content):
        if part.type in _TEXTS and part.text is not None:
            texts.append(part.text)
        elif not (answer and part.type in _SILENT):
            message = f"a content part of type {part.type!r} cannot be read: the model takes text only"
            raise APIError(400, message, code="unsupported_content", param=f"{where}.{k}")
    return ("" if answer else "\n").join(texts)


def _arguments(arguments: str | dict[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(arguments or "{}") if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        found = None
    # a model's own malformed call comes back with the conversation, and must not end it
    return found if isinstance(found, dict) else {"malformed": arguments}
