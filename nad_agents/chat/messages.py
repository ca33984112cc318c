"""Chat messages in OpenAI's form, rewritten so that a model's chat template takes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nad_agents.chat_template import template_source

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    from nad_agents.chat.tool_formats import ToolFormat

__all__ = ["fit_template", "with_instructions", "without_tool_roles"]


def fit_template(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[dict[str, Any]],
    *,
    tools: Sequence[dict[str, Any]] | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Return the messages in a form that the model's chat template takes.

    Some templates want user and assistant in turn, and some know no system role. Where a template refuses the messages
    as they are, neighbors of one role are joined first, and then the system message goes into the first user message.

    Args:
        tokenizer: The model's tokenizer.
        messages: The conversation in OpenAI's form.
        tools: Tools for the template.
        chat_template_kwargs: Further variables of the template.

    Returns:
        The first form that the template renders. When it renders none, the messages as they are: the decoder reports
        the template's error.
    """
    if template_source(tokenizer, tools=bool(tools)) is None:
        return messages
    joined = _join_neighbors(messages)
    for candidate in (messages, joined, _join_neighbors(_without_system(joined))):
        try:
            tokenizer.apply_chat_template(
                candidate, tools=list(tools) if tools else None, tokenize=False, add_generation_prompt=True,
                **(chat_template_kwargs or {}),
            )  # fmt: skip
        except Exception:  # noqa: BLE001 - Jinja raises whatever the template's author chose
            continue
        return candidate
    return messages


def with_instructions(messages: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """Return the messages with text added to the first system message, or put in front as one.

    Args:
        messages: The conversation in OpenAI's form.
        text: The text to add; empty text changes nothing.
    """
    if not text:
        return messages
    if messages and messages[0]["role"] == "system":
        return [{**messages[0], "content": f"{messages[0]['content']}\n\n{text}"}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def without_tool_roles(messages: list[dict[str, Any]], tool_format: ToolFormat | None) -> list[dict[str, Any]]:
    """Return the messages with tool calls and results as plain text, for chat templates that know no tools.

    Args:
        messages: The conversation in OpenAI's form.
        tool_format: How calls are written. None leaves the calls out and shows each result with the call that it
            answers, for an answer that shall be in words and not one more call.
    """
    called: dict[str, str] = {}
    plain = []
    for message in messages:
        calls = message.get("tool_calls", ())
        for call in calls:
            function = call["function"]
            arguments = "" if tool_format else f"({json.dumps(function['arguments'], ensure_ascii=False)})"
            called[call["id"]] = f"{function['name']}{arguments}"
        if calls:
            functions = [call["function"] for call in calls]
            written = [tool_format.write(f["name"], f["arguments"]) for f in functions] if tool_format else []
            content = "\n".join(part for part in (message["content"], *written) if part)
            plain += [{"role": "assistant", "content": content}] if content else []
        elif message["role"] == "tool":
            source = called.get(message.get("tool_call_id", ""), message.get("name", "the tool"))
            plain.append({"role": "user", "content": f"{source} returned: {message['content']}"})
        else:
            plain.append(message)
    return plain


def _join_neighbors(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
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
