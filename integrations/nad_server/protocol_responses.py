"""The body of POST /v1/responses, and what it says in the words of chat completions."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from nad_server.errors import APIError
from nad_server.prompt_input import plain_text
from nad_server.protocol import (
    ChatMessage,
    ContentPart,
    ExtraFieldsModel,
    FunctionCall,
    TemplateFields,
    ToolCall,
    ToolChoice,
)

__all__ = ["ResponsesRequest", "arguments_of", "conversation_of", "refuse_several"]


class ResponseTool(ExtraFieldsModel):
    """A function on offer, without the nesting of chat completions."""

    type: Literal["function"]
    name: str = Field(min_length=1, max_length=128)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class TextFormat(ExtraFieldsModel):
    """The shape of the answer, likewise."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = None
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")


class TextOptions(ExtraFieldsModel):
    """What is asked of the text."""

    format: TextFormat | None = None


class Reasoning(ExtraFieldsModel):
    """What is asked of the reasoning."""

    effort: str | None = Field(default=None, max_length=64)


class InputItem(ExtraFieldsModel):
    """A message, a tool call, its result, or an earlier answer's reasoning."""

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
    max_output_tokens: int | None = Field(default=None, ge=1)
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
        """Tokens that the answer may have, where the request says it."""
        return self.max_output_tokens

    @property
    def logprobs(self) -> bool:
        """Whether the text comes with its tokens' log-probabilities."""
        return "message.output_text.logprobs" in (self.include or ())


def refuse_several(body: ResponsesRequest) -> None:
    """Refuse to return several answers, which this form has no place for.

    Raises:
        APIError: names the parameter.
    """
    if body.n not in {None, 1}:
        message = "a response holds one answer; set candidates with nad.n, or ask /v1/chat/completions for several"
        raise APIError(400, message, code="unsupported_parameter", param="n")


def conversation_of(body: ResponsesRequest) -> list[ChatMessage]:
    """The input as messages; calls that follow one another become one message.

    Raises:
        APIError: an item lacks what its type needs, or holds something other than text.
    """
    found: list[ChatMessage] = []
    if body.instructions:
        found.append(ChatMessage(role="system", content=body.instructions))
    items = [InputItem(role="user", content=body.input)] if isinstance(body.input, str) else body.input
    for i, item in enumerate(items):
        where = f"input.{i}"
        if item.type == "function_call":
            if item.name is None or item.call_id is None:
                raise APIError(400, f"{where} needs name and call_id", code="invalid_value", param=where)
            call = ToolCall(id=item.call_id, function=FunctionCall(name=item.name, arguments=item.arguments or "{}"))
            if not (found and found[-1].role == "assistant"):
                found.append(ChatMessage(role="assistant", content=""))
            found[-1].tool_calls = [*(found[-1].tool_calls or ()), call]
        elif item.type == "function_call_output":
            if item.output is None or item.call_id is None:
                raise APIError(400, f"{where} needs output and call_id", code="invalid_value", param=where)
            found.append(
                ChatMessage(
                    role="tool",
                    tool_call_id=item.call_id,
                    content=plain_text(item.output, f"{where}.output", answer=False),
                )
            )
        elif item.type == "message":
            if item.role is None or item.content is None:
                raise APIError(400, f"{where} needs role and content", code="invalid_value", param=where)
            text = plain_text(item.content, f"{where}.content", answer=item.role == "assistant")
            found.append(ChatMessage(role=item.role, content=text))
    if not found:
        raise APIError(
            400, "the input is empty; write what the model should answer", code="invalid_value", param="input"
        )
    return found


def arguments_of(body: ResponsesRequest) -> dict[str, Any]:
    """Tools and the shape of the answer, as chat completions have them."""
    found: dict[str, Any] = {}
    if body.tools:
        found["tools"] = [
            {"type": "function", "function": tool.model_dump(exclude={"type"}, exclude_none=True)}
            for tool in body.tools
        ]
    if body.tool_choice is not None:
        found["tool_choice"] = body.model_dump(include={"tool_choice"}, exclude_none=True)["tool_choice"]
    if body.parallel_tool_calls is not None:
        found["parallel_tool_calls"] = body.parallel_tool_calls
    shape = body.text.format if body.text else None
    if shape is not None:
        found["response_format"] = {"type": shape.type}
        if shape.type == "json_schema":
            if shape.json_schema is None:
                raise APIError(400, "type json_schema needs a schema", code="invalid_value", param="text.format.schema")
            found["response_format"]["json_schema"] = {"name": shape.name, "schema": shape.json_schema}
    return found
