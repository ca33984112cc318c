"""What requests have in common, and what chat requests add; unknown fields are let through, as clients send them."""

from __future__ import annotations

import json
from abc import abstractmethod
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nad_agents.types import Pruning, ScoreName, Similarity

__all__ = [
    "ChatMessage",
    "ChatRequest",
    "CompletionRequest",
    "ExtraFieldsModel",
    "FunctionDefinition",
    "NADOptions",
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
    """A part of a request that may bring fields which nobody reads."""

    model_config = ConfigDict(extra="allow")


class NADOptions(BaseModel):
    """What OpenAI's protocol has no word for: candidates, and how one is chosen.

    Attributes:
        n: candidates to sample.
        selector: how they are ranked.
        selector_options: further parameters of the selector.
        similarity: how activated neurons are compared.
        score: score of a neuron.
        top_k: activated neurons per token.
        per_layer_top: at most this many of them from one layer.
        chunk_size: tokens per chunk.
        chunks: compare the first so many chunks only.
        skip_tokens: leave out this many tokens at the start.
        common_prefix: compare as many tokens as the shortest candidate has.
        pruning: when losers are dropped.
        keep: candidates that survive pruning.
        verify: False leaves out the server's checks; True insists on them.
        include_candidates: put every candidate with its text, and their similarities, into the evidence.
    """

    model_config = ConfigDict(extra="forbid")

    n: int | None = Field(default=None, ge=1)
    selector: str | None = Field(default=None, max_length=64)
    selector_options: dict[str, bool | int | float | str] | None = None
    similarity: Similarity | None = None
    score: ScoreName | None = None
    top_k: int | None = Field(default=None, ge=1, le=100_000)
    per_layer_top: int | None = Field(default=None, ge=1, le=100_000)
    chunk_size: int | None = Field(default=None, ge=1, le=4096)
    chunks: int | None = Field(default=None, ge=1)
    skip_tokens: int | None = Field(default=None, ge=0)
    common_prefix: bool | None = None
    pruning: Pruning | None = None
    keep: int | None = Field(default=None, ge=1)
    verify: bool | None = None
    include_candidates: bool = False


class StreamOptions(ExtraFieldsModel):
    """What a stream says beside the answer."""

    include_usage: bool = False


class SamplingFields(ExtraFieldsModel):
    """Sampling, as every endpoint takes it; top_k, min_p and repetition_penalty as other local servers name them."""

    model: str = Field(min_length=1, max_length=512)
    n: int | None = Field(default=None, ge=1, le=128)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    stop: str | list[str] | None = None
    seed: int | None = Field(default=None, ge=-_INT64, lt=_INT64)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    nad: NADOptions | None = None

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
    def _all_tokens(cls, value: int | None) -> int | None:
        # vLLM and SGLang write -1 for no limit
        return 0 if value == -1 else value

    @property
    def token_limit(self) -> int | None:
        """Tokens that the answer may have, where the request says it."""
        return None

    @property
    def usage_in_stream(self) -> bool:
        """Whether the stream ends with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage


class TemplateFields(SamplingFields):
    """A request in messages.

    Attributes:
        chat_template_kwargs: variables of the chat template, as vLLM, SGLang and llama.cpp take them.
        enable_thinking: the variable of this name, on its own.
    """

    chat_template_kwargs: dict[str, Any] | None = None
    enable_thinking: bool | None = None

    @property
    @abstractmethod
    def effort(self) -> tuple[str, str | None]:
        """The parameter that says how much the model is to think before it answers, and what it says."""


class FunctionDefinition(ExtraFieldsModel):
    """A function on offer."""

    name: str = Field(min_length=1, max_length=128)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(ExtraFieldsModel):
    """A tool on offer; there are functions only."""

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
    """A call that the model made."""

    name: str
    arguments: str | dict[str, Any] = "{}"


class ToolCall(ExtraFieldsModel):
    """The same with its id."""

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
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class JSONSchemaFormat(ExtraFieldsModel):
    """A schema that the answer has to fit."""

    name: str | None = None
    json_schema: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(ExtraFieldsModel):
    """The shape of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JSONSchemaFormat | None = None

    @model_validator(mode="after")
    def _schema_is_there(self) -> ResponseFormat:
        if self.type == "json_schema" and self.json_schema is None:
            msg = "type json_schema needs json_schema: {name, schema}"
            raise ValueError(msg)
        return self


class ChatRequest(TemplateFields):
    """The body of POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = Field(default=None, max_length=64)

    @property
    def effort(self) -> tuple[str, str | None]:
        """See `TemplateFields`."""
        return "reasoning_effort", self.reasoning_effort

    @property
    def token_limit(self) -> int | None:
        """Tokens that the answer may have, where the request says it."""
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(SamplingFields):
    """Text to go on with; `best_of` is the number of candidates, which is what it means at OpenAI too."""

    prompt: str | Annotated[list[str], Field(min_length=1)]
    suffix: str | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    best_of: int | None = Field(default=None, ge=1)
    logprobs: int | None = Field(default=None, ge=0, le=0)

    @property
    def token_limit(self) -> int | None:
        """Tokens that an answer may have, where the request says it."""
        return self.max_tokens
