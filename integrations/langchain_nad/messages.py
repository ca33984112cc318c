"""LangChain messages to what chat templates take."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage, convert_to_openai_messages

from nad_agents.chat_templates import template_source
from nad_agents.exceptions import PromptError

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    from langchain_nad.tool_calls import ToolFormat

__all__ = ["fit_template", "template_messages", "with_instructions", "without_tool_roles"]

_MODEL_ONLY = {"reasoning", "thinking", "redacted_thinking", "tool_call", "tool_call_chunk", "invalid_tool_call"}
_MODEL_ONLY |= {"tool_use", "function_call", "input_json_delta", "non_standard", "refusal", "reasoning_content"}
"""Content blocks of an earlier answer that are not shown to the model again, or are carried as tool calls."""


def template_messages(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """Messages in OpenAI's form, as chat templates expect them: text content, tool-call arguments as objects.

    Raises:
        PromptError: a message holds something other than text, or is of a kind that no chat has.
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
        # an answer's text may have been cut anywhere, other blocks are paragraphs
        text = ("" if isinstance(message, AIMessage) else "\n").join(parts)
    if isinstance(message, AIMessage):
        # a call that could not be read goes back as the text that it was
        text = "\n".join(part for part in (text, *(call["args"] for call in message.invalid_tool_calls)) if part)
    if isinstance(message, ToolMessage) and message.status == "error" and not text.lower().startswith("error"):
        text = f"Error: {text}"
    return text


def _block_text(block: str | dict[str, Any], message: BaseMessage) -> str | None:
    """Text of a content block; None for what is left out."""
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


def fit_template(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[dict[str, Any]],
    *,
    tools: Sequence[dict[str, Any]] | None = None,
    template_options: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """The messages in a form that the model's chat template takes.

    Some templates want user and assistant in turn, some know no system role. Where the messages as they are are
    refused, neighbours of one role are joined, then the system message is put in front of the first user message.

    Returns:
        The first form that the template renders; the original when it renders none, whose error the decoder reports.
    """
    if template_source(tokenizer, tools=bool(tools)) is None:
        return messages
    joined = _join_neighbours(messages)
    for form in (messages, joined, _join_neighbours(_without_system(joined))):
        try:
            tokenizer.apply_chat_template(
                form, tools=list(tools) if tools else None, tokenize=False, add_generation_prompt=True,
                **(template_options or {}),
            )  # fmt: skip
        except Exception:  # noqa: BLE001 - Jinja raises whatever the template's author chose
            continue
        return form
    return messages


def with_instructions(messages: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """The messages with a text added to the first system message, or put in front as one."""
    if not text:
        return messages
    if messages and messages[0]["role"] == "system":
        return [{**messages[0], "content": f"{messages[0]['content']}\n\n{text}"}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def without_tool_roles(messages: list[dict[str, Any]], form: ToolFormat | None) -> list[dict[str, Any]]:
    """Calls and their results as plain text, for chat templates that know no tools.

    Args:
        messages: from `template_messages`.
        form: how calls are written; None leaves them out and tells the results with what was called, for an answer
            that shall be in words and not one more call.
    """
    called: dict[str, str] = {}
    plain = []
    for message in messages:
        calls = message.get("tool_calls", ())
        for call in calls:
            function = call["function"]
            arguments = "" if form else f"({json.dumps(function['arguments'], ensure_ascii=False)})"
            called[call["id"]] = f"{function['name']}{arguments}"
        if calls:
            written = [form.write(c["function"]["name"], c["function"]["arguments"]) for c in calls] if form else []
            content = "\n".join(part for part in (message["content"], *written) if part)
            plain += [{"role": "assistant", "content": content}] if content else []
        elif message["role"] == "tool":
            source = called.get(message.get("tool_call_id", ""), message.get("name", "the tool"))
            plain.append({"role": "user", "content": f"{source} returned: {message['content']}"})
        else:
            plain.append(message)
    return plain


def _join_neighbours(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    joined: list[dict[str, Any]] = []
    for message in messages:
        last = joined[-1] if joined else None
        plain = message.keys() <= {"role", "content", "name"}
        if last is not None and plain and last["role"] == message["role"] != "tool" and "tool_calls" not in last:
            last["content"] = "\n\n".join(part for part in (last["content"], message["content"]) if part)
        else:
            joined.append(dict(message))
    return joined


def _without_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**m, "role": "user"} if m["role"] == "system" else m for m in messages]
