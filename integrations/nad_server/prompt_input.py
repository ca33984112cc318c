"""Messages as clients send them, to what chat templates take."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nad_agents.exceptions import ConfigurationError
from nad_agents.prompt import check_template_options, reads_variable, template_source
from nad_server.errors import APIError
from nad_server.protocol import ChatMessage, ContentPart, TemplateFields

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

__all__ = ["fill_in_prompt", "plain_text", "template_messages", "template_options"]


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


_TEMPLATES = (
    # the prompt comes first
    "<|fim_prefix|>{prompt}<|fim_suffix|>{suffix}<|fim_middle|>",  # Qwen 2.5 Coder, CodeGemma
    "<fim_prefix>{prompt}<fim_suffix>{suffix}<fim_middle>",  # StarCoder, Stable Code, Granite
    "<fim-prefix>{prompt}<fim-suffix>{suffix}<fim-middle>",  # SantaCoder
    "<｜fim▁begin｜>{prompt}<｜fim▁hole｜>{suffix}<｜fim▁end｜>",  # DeepSeek Coder
    "▁<PRE>{prompt}▁<SUF>{suffix}▁<MID>",  # Code Llama
    # the suffix comes first, so that the answer goes on where the prompt ends
    "<[fim-suffix]>{suffix}<[fim-prefix]>{prompt}<[fim-middle]>",  # Seed-Coder
    "<|code_suffix|>{suffix}<|code_prefix|>{prompt}<|code_middle|>",  # CodeGeeX4
    "[SUFFIX]{suffix}[PREFIX]{prompt}",  # Codestral
)
"""What the families were trained on; a model knows one if each mark is a token of its vocabulary."""

_PARTS = re.compile(r"\{prompt\}|\{suffix\}")


def fill_in_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str, suffix: str) -> str:
    """The text that makes a model write what stands between prompt and suffix.

    Raises:
        APIError: the model knows no such marks.
    """
    known = tokenizer.get_vocab()
    for template in _TEMPLATES:
        if all(mark in known for mark in _PARTS.split(template) if mark):
            return template.format(prompt=prompt, suffix=suffix)
    message = "suffix: this model cannot fill in before one; leave it out, or serve a model such as Qwen2.5-Coder"
    raise APIError(400, message, code="unsupported_parameter", param="suffix")


def template_options(tokenizer: PreTrainedTokenizerBase, request: TemplateFields, *, tools: bool) -> dict[str, Any]:
    """The variables of the chat template that a request sets; what `chat_template_kwargs` says wins.

    Args:
        tokenizer: of the model.
        request: the body.
        tools: whether it has tools; some models have a template of their own for that.

    Raises:
        APIError: names the parameter that the template does not read, or that is not the caller's.
    """
    template = template_source(tokenizer, tools=tools) or ""
    param, effort = request.effort
    found: dict[str, tuple[str, Any]] = {}
    if effort is not None:
        if reads_variable(template, "reasoning_effort"):
            found["reasoning_effort"] = (param, effort)
        elif effort != "none":
            message = f"{param}: the model has no levels of reasoning, only 'none' can be asked for; leave it out"
            raise APIError(400, message, code="unsupported_parameter", param=param)
        elif reads_variable(template, "enable_thinking"):
            found["enable_thinking"] = (param, False)
    if request.enable_thinking is not None:
        found["enable_thinking"] = ("enable_thinking", request.enable_thinking)
    for name, value in (request.chat_template_kwargs or {}).items():
        found[name] = (f"chat_template_kwargs.{name}", value)
    for name, (said_by, value) in found.items():
        try:
            check_template_options(tokenizer, {name: value}, tools=tools)
        except ConfigurationError as error:
            message = f"{said_by}: {error}"
            raise APIError(400, message, code="unsupported_parameter", param=said_by) from error
    return {name: value for name, (_, value) in found.items()}
