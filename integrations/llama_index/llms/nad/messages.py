"""LlamaIndex's messages to what chat templates take."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    CachePoint,
    ChatMessage,
    CitableBlock,
    ContentBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from nad_agents.exceptions import PromptError

__all__ = ["template_messages"]

_ROLES = {
    MessageRole.SYSTEM: "system",
    MessageRole.DEVELOPER: "system",
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.TOOL: "tool",
    MessageRole.FUNCTION: "tool",
}


def template_messages(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """Role and text, with the arguments of tool calls as objects.

    Raises:
        PromptError: a message holds something other than text.
    """
    found = []
    for i, message in enumerate(messages):
        role = _ROLES[message.role]
        # an answer's text may have been cut anywhere, other blocks are paragraphs
        text = ("" if role == "assistant" else "\n").join(_texts(message.blocks, role))
        one: dict[str, Any] = {"role": role, "content": text}
        calls = list(_calls(message, i)) if role == "assistant" else []
        if calls:
            one["tool_calls"] = calls
        if role == "tool":
            one["tool_call_id"] = str(message.additional_kwargs.get("tool_call_id", ""))
        if isinstance(name := message.additional_kwargs.get("name"), str):
            one["name"] = name
        found.append(one)
    return found


def _texts(blocks: Sequence[ContentBlock], role: str) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, TextBlock):
            yield block.text
        elif isinstance(block, CitableBlock):
            yield from _texts(block.content, role)
        # what an earlier answer thought is not shown to the model again
        elif not isinstance(block, ThinkingBlock | ToolCallBlock | CachePoint):
            kind = block.block_type
            msg = f"a {role} message has a block of type {kind!r}, but the model reads text only; leave it out"
            raise PromptError(msg)


def _calls(message: ChatMessage, place: int) -> Iterator[dict[str, Any]]:
    """Calls of an answer: from its blocks, or where another model of LlamaIndex put them."""
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    for k, block in enumerate(blocks):
        yield _call(block.tool_call_id or f"call_{place}_{k}", block.tool_name, block.tool_kwargs)
    if not blocks:
        for k, found in enumerate(message.additional_kwargs.get("tool_calls") or ()):
            call = found if isinstance(found, dict) else found.model_dump()
            function = call.get("function", call)
            yield _call(call.get("id") or f"call_{place}_{k}", function["name"], function["arguments"])


def _call(call_id: str, name: str, arguments: Any) -> dict[str, Any]:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError:
            # a model's own malformed call comes back with the conversation, and must not end it
            arguments = {"malformed": arguments}
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
