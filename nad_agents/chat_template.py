"""Read the source of a model's chat template, and check the variables that a caller gives it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nad_agents.exceptions import ConfigurationError

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

__all__ = ["check_chat_template_kwargs", "reads_variable", "template_source"]


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
    """Return whether a template may read a variable; False is certain, True is not.

    Args:
        template: Source of a chat template.
        name: Name of the variable.
    """
    return re.search(rf"\b{re.escape(name)}\b", template) is not None


def check_chat_template_kwargs(
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
