"""The body of POST /v1/responses, and its translation into the protocol of chat completions."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from nad_agents.config_fields import optional_field
from nad_agents.types import SamplingConfig
from nad_server.errors import APIError
from nad_server.prompt_input import plain_text
from nad_server.protocol import (
    ChatMessage,
    ContentPart,
    ExtraFieldsModel,
    FunctionCall,
    FunctionDefinition,
    JSONSchemaFormat,
    MessageToolCall,
    ResponseFormat,
    TemplateFields,
    Tool,
    ToolChoice,
)

__all__ = ["ResponsesRequest", "chat_messages", "chat_response_format", "chat_tools", "refuse_several_choices"]


class ResponseTool(ExtraFieldsModel):
    """A function on offer, without the nesting of chat completions."""

    type: Literal["function"]
    name: str = Field(min_length=1, max_length=128)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class TextFormat(ExtraFieldsModel):
    """The form of the answer, without the nesting of chat completions."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = None
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")


class TextOptions(ExtraFieldsModel):
    """Options of the answer's text."""

    format: TextFormat | None = None


class Reasoning(ExtraFieldsModel):
    """Options of the reasoning before the answer."""

    effort: str | None = Field(default=None, max_length=64)


class InputItem(ExtraFieldsModel):
    """A message, a tool call, the result of one, or the reasoning of an earlier answer."""

    type: Literal["message", "function_call", "function_call_output", "reasoning"] = "message"
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[ContentPart] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[ContentPart] | None = None


class ResponsesRequest(TemplateFields):
    """The body of POST /v1/responses."""

    input: str | list[InputItem]
    instructions: str | None = None
    max_output_tokens: int | None = optional_field(SamplingConfig, "max_new_tokens")
    text: TextOptions | None = None
    tools: list[ResponseTool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, Any] | None = None
    reasoning: Reasoning | None = None
    include: list[Literal["reasoning.encrypted_content", "message.output_text.logprobs"]] | None = None

    @property
    def effort(self) -> tuple[str, str | None]:
        """See `TemplateFields`."""
        return "reasoning.effort", self.reasoning.effort if self.reasoning else None

    @property
    def token_limit(self) -> int | None:
        """See `SamplingFields`."""
        return self.max_output_tokens

    @property
    def token_limit_param(self) -> str:
        """See `SamplingFields`."""
        return "max_output_tokens"

    @property
    def logprobs(self) -> bool:
        """Whether the text comes with the log-probabilities of its tokens."""
        return "message.output_text.logprobs" in (self.include or ())


def refuse_several_choices(body: ResponsesRequest) -> None:
    """Refuse a request for several choices, which a response of this endpoint has no place for.

    Raises:
        APIError: The request asks for several choices.
    """
    if body.n not in {None, 1}:
        message = "a response holds one answer; set candidates with nad.n, or ask /v1/chat/completions for several"
        raise APIError(400, message, code="unsupported_parameter", param="n")


def chat_messages(body: ResponsesRequest) -> list[ChatMessage]:
    """Return the instructions and the input as messages; consecutive tool calls become one message.

    Raises:
        APIError: The input is empty, an item lacks what its type needs, or it holds something other than text.
    """
    messages: list[ChatMessage] = []
    if body.instructions:
        messages.append(ChatMessage(role="system", content=body.instructions))
    items = [InputItem(role="user", content=body.input)] if isinstance(body.input, str) else body.input
    for i, item in enumerate(items):
        where = f"input.{i}"
        if item.type == "function_call":
            if item.name is None or item.call_id is None:
                raise APIError(400, f"{where} needs name and call_id", code="invalid_value", param=where)
            function = FunctionCall(name=item.name, arguments=item.arguments or "{}")
            if not (messages and messages[-1].role == "assistant"):
                messages.append(ChatMessage(role="assistant", content=""))
            earlier = messages[-1].tool_calls or ()
            messages[-1].tool_calls = [*earlier, MessageToolCall(id=item.call_id, function=function)]
        elif item.type == "function_call_output":
            if item.output is None or item.call_id is None:
                raise APIError(400, f"{where} needs output and call_id", code="invalid_value", param=where)
            text = plain_text(item.output, f"{where}.output", by_model=False)
            messages.append(ChatMessage(role="tool", tool_call_id=item.call_id, content=text))
        elif item.type == "message":
            if item.role is None or (item.content is None and item.role != "assistant"):
                raise APIError(400, f"{where} needs role and content", code="invalid_value", param=where)
            text = plain_text(item.content, f"{where}.content", by_model=item.role == "assistant")
            messages.append(ChatMessage(role=item.role, content=text))
    if not messages:
        message = "the input is empty; write what the model should answer"
        raise APIError(400, message, code="invalid_value", param="input")
    return messages


def chat_tools(body: ResponsesRequest) -> list[Tool]:
    """Return the tools as chat completions have them."""
    functions = [tool.model_dump(exclude={"type"}, exclude_none=True) for tool in body.tools or ()]
    return [Tool(type="function", function=FunctionDefinition(**function)) for function in functions]


def chat_response_format(body: ResponsesRequest) -> ResponseFormat | None:
    """Return the form of the answer as chat completions have it, if the request sets one.

    Raises:
        APIError: The schema is missing.
    """
    text_format = body.text.format if body.text else None
    if text_format is None:
        return None
    if text_format.type != "json_schema":
        return ResponseFormat(type=text_format.type)
    if text_format.json_schema is None:
        raise APIError(400, "type json_schema needs a schema", code="invalid_value", param="text.format.schema")
    schema = JSONSchemaFormat(name=text_format.name, schema=text_format.json_schema)
    return ResponseFormat(type="json_schema", json_schema=schema)
