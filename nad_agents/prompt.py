"""From a caller's prompt to the tokens that the model reads, through the model's chat template."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nad_agents.exceptions import ConfigurationError, PromptError

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

__all__ = [
    "Message",
    "Prompt",
    "check_template_options",
    "encode_prompt",
    "last_user_text",
    "reads_variable",
    "template_source",
]


Message = Mapping[str, Any]
"""A chat message in OpenAI's form, with a role, a content, and tool calls or a tool call's id."""

Prompt = str | Sequence[Message]
"""Text, or the messages of a conversation."""


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    *,
    raw: bool = False,
    tools: Sequence[Mapping[str, Any]] | None = None,
    template_options: Mapping[str, Any] | None = None,
) -> list[int]:
    """Return the token ids of a prompt, special tokens included.

    Args:
        tokenizer: The model's tokenizer.
        prompt: Text or messages. Text becomes one user message if the model has a chat template.
        raw: Whether text is taken as it is, to be continued.
        tools: Tools in OpenAI's form, for the chat template.
        template_options: Further variables of the chat template.

    Raises:
        PromptError: The prompt is empty, or the chat template is absent or refuses the messages.
        ConfigurationError: See `check_template_options`.
    """
    if not prompt or (isinstance(prompt, str) and not prompt.strip()):
        msg = "the prompt is empty; write what the model should answer"
        raise PromptError(msg)
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(prompt, str) and (raw or template is None):
        return list(tokenizer(prompt)["input_ids"])
    if raw:
        msg = "raw=True takes text, but messages were given; join them to one text or drop raw=True"
        raise PromptError(msg)
    if template is None:
        name = Path(tokenizer.name_or_path).name or "the model"
        msg = (
            f"{name} has no chat template, so it takes text and no messages; "
            "pass a string, or choose an instruction-tuned model"
        )
        raise PromptError(msg)
    check_template_options(tokenizer, template_options or {}, tools=bool(tools))
    messages: list[Any] = (
        [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(m) for m in prompt]
    )
    try:
        encoded: Any = tokenizer.apply_chat_template(
            messages,
            tools=[dict(tool) for tool in tools] if tools else None,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            **(template_options or {}),
        )
    except Exception as error:
        # a template may raise any exception
        msg = f"the chat template refuses these messages: {error}"
        raise PromptError(msg) from error
    return list(encoded["input_ids"])


def last_user_text(prompt: Prompt) -> str:
    """Return the text of the last user message, in which verifiers look for examples; empty if there is none."""
    if isinstance(prompt, str):
        return prompt
    for message in reversed(prompt):
        if message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content
            parts = content if isinstance(content, Sequence) else ()
            return "\n".join(p["text"] for p in parts if isinstance(p, Mapping) and isinstance(p.get("text"), str))
    return ""


def template_source(tokenizer: PreTrainedTokenizerBase, *, tools: bool) -> str | None:
    """Return the source of the chat template that the tokenizer would use; None if it has none.

    Args:
        tokenizer: The model's tokenizer.
        tools: Whether tools will be given, for which some models have a template of their own.
    """
    template: str | dict[str, str] | None = tokenizer.chat_template
    if isinstance(template, dict):
        chosen = template.get("tool_use") if tools else None
        return chosen or template.get("default")
    return template


def reads_variable(template: str, name: str) -> bool:
    """Return whether a template may read a variable; False is certain, True is not."""
    return re.search(rf"\b{re.escape(name)}\b", template) is not None


def check_template_options(
    tokenizer: PreTrainedTokenizerBase, options: Mapping[str, Any], *, tools: bool = False
) -> None:
    """Refuse variables of the chat template that it does not read, or that the tokenizer sets itself.

    Args:
        tokenizer: The model's tokenizer.
        options: Variables of the chat template.
        tools: See `template_source`.

    Raises:
        ConfigurationError: The template does not read one of the variables, or the tokenizer sets it.
    """
    if not options:
        return
    template = template_source(tokenizer, tools=tools) or ""
    reserved = _reserved(tokenizer)
    for name in options:
        if name in reserved or name in tokenizer.special_tokens_map:
            msg = f"{name!r} of the chat template is set by what is asked, and not as a variable; leave it out"
            raise ConfigurationError(msg)
        if not reads_variable(template, name):
            msg = f"the model's chat template reads no variable {name!r}; leave it out"
            raise ConfigurationError(msg)


def _reserved(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """Return the names that `apply_chat_template` takes itself or passes to every template."""
    own = inspect.signature(tokenizer.apply_chat_template).parameters
    return set(own) | {"self", "messages", "conversations"}
