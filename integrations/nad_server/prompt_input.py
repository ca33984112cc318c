"""Convert a request's messages and template variables to the form that the model's chat template takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nad_agents.chat_template import check_chat_template_kwargs, reads_variable, template_source
from nad_agents.exceptions import ConfigurationError
from nad_server.errors import APIError
from nad_server.protocol import ChatMessage, ContentPart, TemplateFields

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

__all__ = ["plain_text", "read_chat_template_kwargs", "template_messages"]

_TEXT_PARTS = {"text", "input_text", "output_text"}
_SKIPPED_PARTS = {"refusal", "reasoning", "thinking"}
"""Parts of an earlier answer that the model does not read again."""


def template_messages(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """Return messages as chat templates take them: content as text, and the arguments of tool calls as objects.

    Args:
        messages: The conversation of the request.

    Raises:
        APIError: A message holds something other than text, or lacks what its role needs.
    """
    converted = []
    for i, message in enumerate(messages):
        where = f"messages.{i}"
        role = "system" if message.role == "developer" else message.role
        content = plain_text(message.content, f"{where}.content", by_model=role == "assistant")
        entry: dict[str, Any] = {"role": role, "content": content}
        if message.name is not None:
            entry["name"] = message.name
        if message.tool_calls and role == "assistant":
            entry["tool_calls"] = [
                {
                    "id": call.id or f"call_{i}_{k}",
                    "type": "function",
                    "function": {
                        "name": call.function.name,
                        "arguments": _arguments_as_object(call.function.arguments),
                    },
                }
                for k, call in enumerate(message.tool_calls)
            ]
        elif message.content is None and role != "assistant":
            raise APIError(400, f"{where} has no content", code="invalid_value", param=f"{where}.content")
        if role == "tool":
            entry["tool_call_id"] = message.tool_call_id or ""
        converted.append(entry)
    return converted


def plain_text(content: str | list[ContentPart] | None, where: str, *, by_model: bool) -> str:
    """Return the content of a message as text.

    Args:
        content: Text, or the parts of a message.
        where: The place of the content in the request.
        by_model: Whether the model wrote the message.

    Raises:
        APIError: A part is something other than text.
    """
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for k, part in enumerate(content):
        if part.type in _TEXT_PARTS and part.text is not None:
            texts.append(part.text)
        elif not (by_model and part.type in _SKIPPED_PARTS):
            message = f"a content part of type {part.type!r} cannot be read: the model takes text only"
            raise APIError(400, message, code="unsupported_content", param=f"{where}.{k}")
    return ("" if by_model else "\n").join(texts)


def _arguments_as_object(arguments: str | dict[str, Any]) -> dict[str, Any]:
    try:
        parsed = json.loads(arguments or "{}") if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        parsed = None
    # a malformed call of the model comes back with the conversation, and must not end it
    return parsed if isinstance(parsed, dict) else {"malformed": arguments}


def read_chat_template_kwargs(
    tokenizer: PreTrainedTokenizerBase, body: TemplateFields, *, tools: bool
) -> tuple[dict[str, Any], list[str]]:
    """Return the variables of the chat template that a request sets, and the parameters that have no effect.

    `chat_template_kwargs` takes precedence over `enable_thinking` and its other names, and these over the reasoning
    effort. The effort is a hint, and a model that cannot think need not be told not to.

    Args:
        tokenizer: The model's tokenizer.
        body: The body of the request.
        tools: Whether the request has tools; some models have a template of their own for such requests.

    Raises:
        APIError: The template does not read a variable that would change the answer, or the variable is not for
            callers to set.
    """
    template = template_source(tokenizer, tools=tools) or ""
    ignored: list[str] = []
    # each variable with the parameter that set it
    variables: dict[str, tuple[str, Any]] = {}
    param, effort = body.effort
    if effort is not None:
        if reads_variable(template, "reasoning_effort"):
            variables["reasoning_effort"] = (param, effort)
        elif effort == "none" and reads_variable(template, "enable_thinking"):
            variables["enable_thinking"] = (param, False)
        else:
            ignored.append(param)
    switches = body.thinking_switches
    if isinstance(body.thinking, dict):
        if switches.get("thinking") and body.thinking.get("budget_tokens"):
            message = "thinking.budget_tokens is not supported by this server; leave it out"
            raise APIError(400, message, code="unsupported_parameter", param="thinking.budget_tokens")
        # of other types, such as auto, the model decides
        ignored += [] if "thinking" in switches else ["thinking"]
    given = [(name, "enable_thinking", value) for name, value in switches.items()]
    given += [
        (f"chat_template_kwargs.{name}", name, value) for name, value in (body.chat_template_kwargs or {}).items()
    ]
    for set_by, name, value in given:
        if _is_hint(name, value) and not reads_variable(template, name):
            ignored.append(set_by)
        else:
            variables[name] = (set_by, value)
    for name, (set_by, value) in variables.items():
        try:
            check_chat_template_kwargs(tokenizer, {name: value}, tools=tools)
        except ConfigurationError as error:
            message = f"{set_by}: {error}"
            raise APIError(400, message, code="unsupported_parameter", param=set_by) from error
    return {name: value for name, (_, value) in variables.items()}, ignored


def _is_hint(variable: str, value: Any) -> bool:
    """Return whether a variable of the chat template may be left out where the template does not read it."""
    return variable == "reasoning_effort" or (variable in {"enable_thinking", "thinking"} and value is False)
