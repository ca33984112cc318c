"""LangChain's messages, converted to what chat templates take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, InvalidToolCall, ToolMessage, convert_to_openai_messages

from nad_agents.exceptions import PromptError

__all__ = ["template_messages"]

_MODEL_ONLY = {"reasoning", "thinking", "redacted_thinking", "tool_call", "tool_call_chunk", "invalid_tool_call"}
_MODEL_ONLY |= {"tool_use", "function_call", "input_json_delta", "non_standard", "refusal", "reasoning_content"}
"""Content blocks of an earlier answer that are left out of the prompt, or go into it as tool calls."""


def template_messages(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """Return messages in OpenAI's form as chat templates expect it: text content, tool-call arguments as objects.

    Args:
        messages: The conversation.

    Raises:
        PromptError: A message holds something other than text, or is of a kind that no chat has.
    """
    texts = [m.model_copy(update={"content": _text(m)}) for m in messages]
    try:
        converted: Any = convert_to_openai_messages(texts)
    except (TypeError, ValueError) as error:
        msg = f"these messages cannot be part of a chat: {error}"
        raise PromptError(msg) from error
    for message in converted:
        if message["role"] == "developer":
            message["role"] = "system"
        for call in message.get("tool_calls", ()):
            arguments = call["function"]["arguments"]
            call["function"]["arguments"] = json.loads(arguments) if isinstance(arguments, str) else arguments
    return list(converted)


def _text(message: BaseMessage) -> str:
    if isinstance(message.content, str):
        text = message.content
    else:
        parts = [part for block in message.content if (part := _block_text(block, message)) is not None]
        # the blocks of an answer may have been cut anywhere; those of other messages are paragraphs
        text = ("" if isinstance(message, AIMessage) else "\n").join(parts)
    if isinstance(message, AIMessage):
        # a call that could not be read goes back to the model as the text that it was
        text = "\n".join(part for part in (text, *map(_written_call, message.invalid_tool_calls)) if part)
    if isinstance(message, ToolMessage) and message.status == "error" and not text.lower().startswith("error"):
        text = f"Error: {text}"
    return text


def _written_call(call: InvalidToolCall) -> str:
    arguments = call["args"] or ""
    name = call["name"]
    named = json.dumps(name, ensure_ascii=False)
    # a call without a known name keeps its whole text; other models keep the whole text of every call
    if not name or arguments.startswith('{"name": '):
        return arguments
    return f'{{"name": {named}, "arguments": {arguments}{"}" if _is_json(arguments) else ""}'


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _block_text(block: str | dict[str, Any], message: BaseMessage) -> str | None:
    """Return the text of a content block; None for a block that is left out."""
    if isinstance(block, str):
        return block
    kind = block.get("type")
    if isinstance(block.get("text"), str) and kind in {"text", "input_text", "output_text", "text-plain", None}:
        return str(block["text"])
    if kind == "json":
        return json.dumps(block.get("json"), ensure_ascii=False)
    if isinstance(message, AIMessage) and kind in _MODEL_ONLY:
        return None
    msg = f"a {message.type} message has a content block of type {kind!r}, but the model reads text only; leave it out"
    raise PromptError(msg)
