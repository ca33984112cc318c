"""LlamaIndex's messages and tools, converted to what chat templates take."""

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

__all__ = ["openai_tool", "template_messages"]

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
    """Return messages in OpenAI's form as chat templates expect it: text content, tool-call arguments as objects.

    Args:
        messages: The conversation.

    Raises:
        PromptError: A message holds something other than text.
    """
    converted = []
    for i, message in enumerate(messages):
        role = _ROLES[message.role]
        # the blocks of an answer may have been cut anywhere; those of other messages are paragraphs
        text = ("" if role == "assistant" else "\n").join(_texts(message.blocks, role))
        fields: dict[str, Any] = {"role": role, "content": text}
        calls = list(_calls(message, i)) if role == "assistant" else []
        if calls:
            fields["tool_calls"] = calls
        if role == "tool":
            fields["tool_call_id"] = str(message.additional_kwargs.get("tool_call_id", ""))
        if isinstance(name := message.additional_kwargs.get("name"), str):
            fields["name"] = name
        converted.append(fields)
    return converted


def openai_tool(tool: Any) -> Any:
    """Return a tool in OpenAI's form; an object that is not a LlamaIndex tool is returned as it is.

    Args:
        tool: A `BaseTool`, or a tool in OpenAI's form.
    """
    metadata = getattr(tool, "metadata", None)
    return tool if metadata is None else metadata.to_openai_tool(skip_length_check=True)


def _texts(blocks: Sequence[ContentBlock], role: str) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, TextBlock):
            yield block.text
        elif isinstance(block, CitableBlock):
            yield from _texts(block.content, role)
        # the model does not read the thinking of an earlier answer again
        elif not isinstance(block, ThinkingBlock | ToolCallBlock | CachePoint):
            kind = block.block_type
            msg = f"a {role} message has a block of type {kind!r}, but the model reads text only; leave it out"
            raise PromptError(msg)


def _calls(message: ChatMessage, position: int) -> Iterator[dict[str, Any]]:
    """Yield the calls of an answer in OpenAI's form; LlamaIndex's other models put them into additional_kwargs."""
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    for k, block in enumerate(blocks):
        yield _call(block.tool_call_id or f"call_{position}_{k}", block.tool_name, block.tool_kwargs)
    if not blocks:
        for k, given in enumerate(message.additional_kwargs.get("tool_calls") or ()):
            call = given if isinstance(given, dict) else given.model_dump()
            function = call.get("function", call)
            yield _call(call.get("id") or f"call_{position}_{k}", function["name"], function["arguments"])


def _call(call_id: str, name: str, arguments: Any) -> dict[str, Any]:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError:
            # a model's own malformed call comes back with the conversation, and must not end it
            arguments = {"malformed": arguments}
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
