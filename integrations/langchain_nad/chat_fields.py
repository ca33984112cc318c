"""What models have that read a conversation through their chat template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from langchain_nad.fields import plain
from langchain_nad.local_model import LocalModel
from langchain_nad.replies import REPLY_ARGUMENTS, Reply
from nad_agents.exceptions import ConfigurationError

__all__ = ["ChatFields"]


class ChatFields(LocalModel):
    """A local model that answers conversations.

    Raises:
        ConfigurationError: see `LocalModel`.
    """

    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Variables of the model's chat template, such as ``{"enable_thinking": False}`` for Qwen3; those of a call are
    added to them, and win."""

    def identity(self) -> dict[str, Any]:
        """See `DecodingFields.identity`."""
        return {**super().identity(), "chat_template_kwargs": plain(self.chat_template_kwargs)}

    def take_reply(self, arguments: dict[str, Any]) -> Reply:
        """What a call asks for; takes those arguments out that say it.

        Raises:
            ConfigurationError: see `Reply.from_arguments`; or the variables of the template are no dict.
        """
        asked: Mapping[str, Any] = {name: arguments.pop(name, None) for name in REPLY_ARGUMENTS}
        if not isinstance(asked["chat_template_kwargs"], Mapping | None):
            msg = f"chat_template_kwargs={asked['chat_template_kwargs']!r} is no dict of variables"
            raise ConfigurationError(msg)
        variables = {**self.chat_template_kwargs, **(asked["chat_template_kwargs"] or {})}
        return Reply.from_arguments({**asked, "chat_template_kwargs": variables})
