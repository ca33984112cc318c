"""Bodies of requests to OpenAI's older endpoints, chat completions and completions.

Fields that are not declared are accepted, since clients send fields of their own; `unsupported_params` refuses those
that would change the answer.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nad_agents.config_fields import optional_field
from nad_agents.types import SamplingConfig
from nad_server.nad_options import NADOptions

__all__ = [
    "ChatMessage",
    "ChatRequest",
    "CompletionRequest",
    "ContentPart",
    "ExtraFieldsModel",
    "FunctionCall",
    "FunctionDefinition",
    "JSONSchemaFormat",
    "MessageToolCall",
    "NamedTool",
    "Reasoning",
    "ResponseFormat",
    "SamplingFields",
    "StreamOptions",
    "TemplateFields",
    "Tool",
    "ToolChoice",
]

_MAX_STOPS, _MAX_STOP_CHARACTERS = 16, 256
"""Every character of a stop string is matched against the whole vocabulary before a request starts: about 8 ms each."""

_INT64 = 2**63


class ExtraFieldsModel(BaseModel):
    """A part of a request that may hold further fields."""

    model_config = ConfigDict(extra="allow")


class StreamOptions(ExtraFieldsModel):
    """Options of a stream."""

    include_usage: bool = Field(default=False, description="Whether the stream ends with the usage.")


class SamplingFields(ExtraFieldsModel):
    """The parameters that every endpoint takes.

    `top_k`, `min_p` and `repetition_penalty` are named as other local servers name them.
    """

    model: str = Field(
        min_length=1,
        max_length=512,
        description="A name of the model, with options behind it if any, as in `name@n=16,selector=medoid`.",
    )
    n: int | None = Field(default=None, ge=1, le=128, description="Number of choices in the response, best first.")
    temperature: float | None = optional_field(SamplingConfig, "temperature", le=2)
    top_p: float | None = optional_field(SamplingConfig, "top_p")
    # vLLM and SGLang write -1 for no limit
    top_k: int | None = optional_field(SamplingConfig, "top_k", ge=-1)
    min_p: float | None = optional_field(SamplingConfig, "min_p")
    repetition_penalty: float | None = optional_field(SamplingConfig, "repetition_penalty", le=10)
    stop: str | list[str] | None = optional_field(SamplingConfig, "stop")
    seed: int | None = optional_field(SamplingConfig, "seed", ge=-_INT64, lt=_INT64)
    stream: bool | None = Field(default=None, description="Whether the response is a stream of events.")
    stream_options: StreamOptions | None = None
    user: str | None = Field(default=None, description="A label of the client's, which changes nothing.")
    nad: NADOptions | None = Field(default=None, description="How many candidates there are and how one is chosen.")

    @model_validator(mode="before")
    @classmethod
    def _text_is_text(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            msg = "the body has to be a JSON object, sent with Content-Type: application/json"
            raise ValueError(msg)  # noqa: TRY004 - pydantic reports ValueError
        try:
            json.dumps(data, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            msg = "the body holds half of a surrogate pair, which is no character"
            raise ValueError(msg) from None
        return data

    @field_validator("stop")
    @classmethod
    def _stops_bounded(cls, value: str | list[str] | None) -> str | list[str] | None:
        stops = [value] if isinstance(value, str) else value or []
        if len(stops) > _MAX_STOPS or not all(stops) or sum(map(len, stops)) > _MAX_STOP_CHARACTERS:
            msg = f"give at most {_MAX_STOPS} stop strings, none empty, of {_MAX_STOP_CHARACTERS} characters together"
            raise ValueError(msg)
        return value

    @field_validator("top_k")
    @classmethod
    def _no_limit_is_zero(cls, value: int | None) -> int | None:
        return 0 if value == -1 else value

    @field_validator("max_tokens", "max_completion_tokens", "max_output_tokens", mode="before", check_fields=False)
    @classmethod
    def _no_token_limit_is_none(cls, value: Any) -> Any:
        # llama.cpp and LM Studio write -1 for no limit
        return None if value == -1 else value

    @property
    def token_limit(self) -> int | None:
        """The token limit of the answer, if the request sets one."""
        return None

    @property
    def token_limit_param(self) -> str:
        """The name of the parameter that sets the token limit."""
        return "max_tokens"

    @property
    def usage_in_stream(self) -> bool:
        """Whether the stream ends with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage


class Reasoning(ExtraFieldsModel):
    """Options of the reasoning before the answer."""

    effort: str | None = Field(default=None, max_length=64)


class TemplateFields(SamplingFields):
    """The parameters of endpoints that take a conversation, which the chat template turns into a prompt."""

    chat_template_kwargs: dict[str, Any] | None = Field(
        default=None, description="Variables of the chat template, as vLLM, SGLang and llama.cpp take them."
    )
    enable_thinking: bool | None = Field(
        default=None, description="The chat template's variable of this name, as a parameter of its own."
    )
    think: bool | Literal["none", "low", "medium", "high"] | None = Field(
        default=None, description="Whether the model thinks before its answer, as Ollama writes it."
    )
    thinking: bool | dict[str, Any] | None = Field(
        default=None, description='The same as other services write it, such as `{"type": "disabled"}`.'
    )
    reasoning: Reasoning | None = None
    reasoning_effort: str | None = Field(
        default=None, max_length=64, description="A hint, which is followed where the chat template reads it."
    )

    @property
    def effort(self) -> tuple[str, str | None]:
        """The name of the parameter that sets the reasoning effort, and its value."""
        if self.reasoning_effort is None and self.reasoning is not None and self.reasoning.effort is not None:
            return "reasoning.effort", self.reasoning.effort
        if self.reasoning_effort is None and isinstance(self.think, str):
            return "think", self.think
        return "reasoning_effort", self.reasoning_effort

    @property
    def thinking_switches(self) -> dict[str, bool]:
        """Whether the model is to think, by the name of each parameter that says so, the last of which holds."""
        switches: dict[str, bool] = {}
        kinds = {"enabled": True, "disabled": False}
        thinking = kinds.get(str(self.thinking.get("type"))) if isinstance(self.thinking, dict) else self.thinking
        if thinking is not None:
            switches["thinking"] = thinking
        if isinstance(self.think, bool):
            switches["think"] = self.think
        if self.enable_thinking is not None:
            switches["enable_thinking"] = self.enable_thinking
        return switches


class FunctionDefinition(ExtraFieldsModel):
    """A function on offer."""

    name: str = Field(min_length=1, max_length=128)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(ExtraFieldsModel):
    """A tool on offer, which has to be a function."""

    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(ExtraFieldsModel):
    """A function by its name."""

    name: str = Field(min_length=1)


class NamedTool(ExtraFieldsModel):
    """The tool that has to be called: nested as in chat completions, or flat as in responses."""

    type: Literal["function"]
    function: NamedFunction | None = None
    name: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _has_a_name(self) -> NamedTool:
        if self.function is None and self.name is None:
            msg = "name the function that has to be called"
            raise ValueError(msg)
        return self


ToolChoice = Literal["none", "auto", "required"] | NamedTool


class FunctionCall(ExtraFieldsModel):
    """The function and the arguments of an earlier tool call."""

    name: str
    arguments: str | dict[str, Any] = "{}"


class MessageToolCall(ExtraFieldsModel):
    """An earlier tool call, in the message of the model that made it."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: FunctionCall


class ContentPart(ExtraFieldsModel):
    """A part of a message's content."""

    type: str
    text: str | None = None


class ChatMessage(ExtraFieldsModel):
    """A message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[MessageToolCall] | None = None
    tool_call_id: str | None = None


class JSONSchemaFormat(ExtraFieldsModel):
    """A schema that the answer has to fit."""

    name: str | None = None
    json_schema: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(ExtraFieldsModel):
    """The form of the answer: text, any JSON object, or JSON that fits a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JSONSchemaFormat | None = None

    @model_validator(mode="after")
    def _has_a_schema(self) -> ResponseFormat:
        if self.type == "json_schema" and self.json_schema is None:
            msg = "type json_schema needs json_schema: {name, schema}"
            raise ValueError(msg)
        return self


class ChatRequest(TemplateFields):
    """The body of POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = optional_field(SamplingConfig, "max_new_tokens")
    max_completion_tokens: int | None = optional_field(SamplingConfig, "max_new_tokens")
    logprobs: bool | None = None
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None

    @property
    def token_limit(self) -> int | None:
        """See `SamplingFields`."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def token_limit_param(self) -> str:
        """See `SamplingFields`."""
        return "max_completion_tokens" if self.max_completion_tokens else "max_tokens"


class CompletionRequest(SamplingFields):
    """The body of POST /v1/completions."""

    prompt: str | Annotated[list[str], Field(min_length=1)]
    suffix: str | None = None
    max_tokens: int | None = optional_field(SamplingConfig, "max_new_tokens")
    best_of: int | None = optional_field(SamplingConfig, "n")
    logprobs: int | None = Field(default=None, ge=0, le=0)

    @property
    def token_limit(self) -> int | None:
        """See `SamplingFields`."""
        return self.max_tokens
