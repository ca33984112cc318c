"""What a chat template reads beside messages and tools, and what is not the caller's to set."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nad_agents.exceptions import ConfigurationError

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

__all__ = ["check_template_options", "reads_variable", "template_source"]


def template_source(tokenizer: PreTrainedTokenizerBase, *, tools: bool) -> str | None:
    """The chat template that the tokenizer would use, as text; None when it has none.

    Args:
        tokenizer: of the model.
        tools: whether tools will be given; some models have a template of their own for that.
    """
    template: str | dict[str, str] | None = tokenizer.chat_template
    if isinstance(template, dict):
        chosen = template.get("tool_use") if tools else None
        return chosen or template.get("default")
    return template


def reads_variable(template: str, name: str) -> bool:
    """Whether a template may read a variable; certain where it does not."""
    return re.search(rf"\b{re.escape(name)}\b", template) is not None


def check_template_options(
    tokenizer: PreTrainedTokenizerBase, options: Mapping[str, Any], *, tools: bool = False
) -> None:
    """Refuse variables that would have no effect, or another one than that of a variable.

    Args:
        tokenizer: of the model.
        options: variables of the chat template.
        tools: see `template_source`.

    Raises:
        ConfigurationError: one is no variable of the template, or is set by who renders it.
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
    """Names that the method of a tokenizer takes itself, or gives to every template."""
    own = inspect.signature(tokenizer.apply_chat_template).parameters
    return set(own) | {"self", "messages", "conversations"}
