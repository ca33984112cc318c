"""`LocalChatModel`: a local model that answers conversations, with tools and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field

from nad_agents.chat.cache_key import json_value
from nad_agents.chat.local_model import LocalModel
from nad_agents.chat.output_spec import OUTPUT_ARGUMENTS, OutputSpec
from nad_agents.chat.params import Settings
from nad_agents.chat.prepare import PreparedChat, prepare
from nad_agents.exceptions import ConfigurationError

__all__ = ["LocalChatModel"]


class LocalChatModel(LocalModel):
    """A local model that answers conversations; the base of each framework's chat model.

    Raises:
        ConfigurationError: See `LocalModel`.
    """

    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description='Variables of the model\'s chat template, such as {"enable_thinking": False} for Qwen3; those of a '
        "call are added to them, and win.",
    )
    parse_special_tokens: bool = Field(
        default=False,
        description="Whether the text of a special token in a message, such as <|im_start|>, becomes that token; only "
        "for messages that nobody else can write.",
    )

    def identity(self) -> dict[str, Any]:
        """Return everything that changes an answer; see `LocalModel.identity`."""
        own = {
            "chat_template_kwargs": json_value(self.chat_template_kwargs),
            "parse_special_tokens": self.parse_special_tokens,
        }
        return {**super().identity(), **own}

    def output_spec(self, arguments: Mapping[str, Any]) -> OutputSpec:
        """Return the kind of answer that a call asks for.

        Args:
            arguments: The call's arguments; those of `OUTPUT_ARGUMENTS` are read.

        Raises:
            ConfigurationError: See `OutputSpec.from_arguments`; or the template's variables are no dict.
        """
        variables = arguments.get("chat_template_kwargs")
        if not isinstance(variables, Mapping | None):
            msg = f"chat_template_kwargs={variables!r} is no dict of variables"
            raise ConfigurationError(msg)
        merged = {**self.chat_template_kwargs, **(variables or {})}
        return OutputSpec.from_arguments({**arguments, "chat_template_kwargs": merged})

    def prepare_chat(
        self, messages: list[dict[str, Any]], arguments: Mapping[str, Any]
    ) -> tuple[PreparedChat, Settings]:
        """Check a call and prepare it for `submit`; everything that can be wrong with it is found here.

        Args:
            messages: The conversation in OpenAI's form.
            arguments: The call's arguments: parameters of sampling and selection, and those of `OUTPUT_ARGUMENTS`,
                with tools in OpenAI's form.

        Raises:
            ConfigurationError: An argument is unknown, has a value that cannot work, or does not go with another.
            ModelLoadError: The model cannot be loaded.
            MissingDependencyError: The answer needs a grammar and llguidance is not installed.
        """
        output_spec = self.output_spec(arguments)
        settings = self.settings({name: value for name, value in arguments.items() if name not in OUTPUT_ARGUMENTS})
        prepared = prepare(
            self.get_decoder(settings.model),
            messages,
            output_spec,
            max_new_tokens=settings.sampling.max_new_tokens,
            verifier=settings.verifier,
        )
        return replace(prepared, parse_special_tokens=self.parse_special_tokens), settings
