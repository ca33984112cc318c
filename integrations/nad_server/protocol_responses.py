"""The body of POST /v1/responses, and its translation into the protocol of chat completions."""

from __future__ import annotations

import json
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
    JSONSchemaFormat,
    MessageToolCall,
    ResponseFormat,
    TemplateFields,
    ToolChoice,
)
from nad_server.response_tools import OfferedTools, ResponseTool

__all__ = [
    "ResponsesRequest",
    "chat_messages",
    "chat_response_format",
    "refuse_several_choices",
]


_CLIENT_TOOLS = {"local_shell", "shell", "apply_patch"}
"""OpenAI's own tools that run at the client."""
_CALLS = {"function_call", "custom_tool_call", *(f"{name}_call" for name in _CLIENT_TOOLS)}
_OUTPUTS = {f"{name}_output" for name in _CALLS}


class TextFormat(ExtraFieldsModel):
    """The form of the answer, without the nesting of chat completions."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = None
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")


class TextOptions(ExtraFieldsModel):
    """Options of the answer's text."""

    format: TextFormat | None = None


class InputItem(ExtraFieldsModel):
    """A message, a tool call, the result of one, or another item of an earlier answer."""

    type: Literal[
        "message",
        "function_call",
        "function_call_output",
        "reasoning",
        "custom_tool_call",
        "custom_tool_call_output",
        "local_shell_call",
        "local_shell_call_output",
        "shell_call",
        "shell_call_output",
        "apply_patch_call",
        "apply_patch_call_output",
        "tool_search_call",
        "tool_search_output",
        "additional_tools",
        "code_interpreter_call",
        "compaction",
        "compaction_trigger",
        "computer_call",
        "computer_call_output",
        "file_search_call",
        "image_generation_call",
        "item_reference",
        "mcp_approval_request",
        "mcp_approval_response",
        "mcp_call",
        "mcp_list_tools",
        "web_search_call",
    ] = "message"
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[ContentPart] | None = None
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: str | dict[str, Any] | None = None
    input: str | None = None
    action: dict[str, Any] | None = None
    operation: dict[str, Any] | None = None
    output: str | list[ContentPart] | list[dict[str, Any]] | dict[str, Any] | None = Field(
        default=None, union_mode="left_to_right"
    )

    @property
    def call(self) -> FunctionCall | None:
        """The call of a tool that ran at the client, as that of a function; None for other items."""
        kind = self.type.removesuffix("_call")
        if self.type == "function_call" and self.name is not None:
            return FunctionCall(name=self.name, arguments=self.arguments or "{}")
        if self.type == "custom_tool_call" and self.name is not None:
            return FunctionCall(name=self.name, arguments={"input": self.input or ""})
        if kind in _CLIENT_TOOLS:
            return FunctionCall(name=kind, arguments=self.action or self.operation or {})
        return None


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
    include: list[Literal["reasoning.encrypted_content", "message.output_text.logprobs"]] | None = None

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


def chat_messages(body: ResponsesRequest, offered: OfferedTools) -> tuple[list[ChatMessage], list[str]]:
    """Return the instructions and the input as messages, and the items that are left out.

    Consecutive tool calls become one message. Calls of tools that run at the client become calls of functions. What
    refers to something that the server does not keep, or ran at OpenAI's servers, is left out.

    Args:
        body: The body of the request.
        offered: The tools on offer, from `offered_tools`.

    Raises:
        APIError: The input is empty, an item lacks what its type needs, or it holds something other than text.
    """
    messages: list[ChatMessage] = []
    ignored: list[str] = []
    if body.instructions:
        messages.append(ChatMessage(role="system", content=body.instructions))
    items = [InputItem(role="user", content=body.input)] if isinstance(body.input, str) else body.input
    for i, item in enumerate(items):
        where = f"input.{i}"
        if item.type in _CALLS:
            function = item.call
            if function is None or item.call_id is None:
                raise APIError(400, f"{where} needs name and call_id", code="invalid_value", param=where)
            function.name = offered.name_of(item.namespace, function.name)
            if not (messages and messages[-1].role == "assistant"):
                messages.append(ChatMessage(role="assistant", content=""))
            earlier = messages[-1].tool_calls or ()
            messages[-1].tool_calls = [*earlier, MessageToolCall(id=item.call_id, function=function)]
        elif item.type in _OUTPUTS:
            # the result of local_shell has the call's id as its own
            call_id = item.call_id or (item.id if item.type == "local_shell_call_output" else None)
            if item.output is None or call_id is None:
                raise APIError(400, f"{where} needs output and call_id", code="invalid_value", param=where)
            messages.append(ChatMessage(role="tool", tool_call_id=call_id, content=_output_text(item, where)))
        elif item.type == "message":
            if item.role is None or (item.content is None and item.role != "assistant"):
                raise APIError(400, f"{where} needs role and content", code="invalid_value", param=where)
            text = plain_text(item.content, f"{where}.content", by_model=item.role == "assistant")
            messages.append(ChatMessage(role=item.role, content=text))
        elif item.type != "reasoning":
            ignored.append(f"{where} ({item.type})")
    if not messages:
        message = "the input is empty; write what the model should answer"
        raise APIError(400, message, code="invalid_value", param="input")
    return messages, ignored


def _output_text(item: InputItem, where: str) -> str:
    """Return the result of a tool call as text; what a shell returns is an object, or a list of objects."""
    output = item.output
    parts = [part for part in output if isinstance(part, ContentPart)] if isinstance(output, list) else []
    if isinstance(output, str) or parts:
        return plain_text(parts or str(output), f"{where}.output", by_model=False)
    return json.dumps(output, ensure_ascii=False) if output else ""


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
