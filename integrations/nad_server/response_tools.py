"""The tools of POST /v1/responses, and which of them a local model can be offered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, model_validator

from nad_server.errors import APIError
from nad_server.protocol import ExtraFieldsModel, FunctionDefinition, Tool, ToolChoice

__all__ = ["OfferedTools", "ResponseTool", "offered_tools"]

_MAX_NAME = 128


class ResponseTool(ExtraFieldsModel):
    """A tool on offer: a function, without the nesting of chat completions, a namespace of tools, or another kind."""

    type: str = Field(min_length=1, max_length=_MAX_NAME)
    name: str | None = Field(default=None, min_length=1, max_length=_MAX_NAME)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    tools: list[ResponseTool] | None = None

    @model_validator(mode="after")
    def _function_has_a_name(self) -> ResponseTool:
        if self.type == "function" and self.name is None:
            msg = "a function needs a name"
            raise ValueError(msg)
        return self

    def as_sent(self) -> dict[str, Any]:
        """Return the tool as responses repeat it."""
        return self.model_dump(exclude={"tools"}) if self.type == "function" else self.model_dump(exclude_none=True)


@dataclass(frozen=True)
class OfferedTools:
    """The tools of a request as chat completions have them.

    Attributes:
        tools: The functions, those inside namespaces included.
        ignored: The tools that cannot be offered, by their place in the request and their type.
        namespaces: The namespace and the name there of each function from a namespace, by the name under which it is
            offered: its own, or one with the namespace before it where two functions have the same name.
    """

    tools: list[Tool]
    ignored: list[str]
    namespaces: dict[str, tuple[str, str]]

    def name_of(self, namespace: str | None, name: str) -> str:
        """Return the name under which a function is offered."""
        places = ((offered, place) for offered, place in self.namespaces.items())
        return next((offered for offered, place in places if place == (namespace, name)), name)


def offered_tools(tools: Sequence[ResponseTool], tool_choice: ToolChoice | None) -> OfferedTools:
    """Return the tools as chat completions have them; where the model may choose, others than functions are left out.

    Args:
        tools: The tools of the request.
        tool_choice: Which tool has to be called, if any.

    Raises:
        APIError: A call is required, and a tool that could be called cannot be offered; the error names it.
    """
    functions: list[tuple[str | None, ResponseTool]] = []
    ignored: list[str] = []
    for where, namespace, tool in _flat(tools):
        if tool.type == "function":
            functions.append((namespace, tool))
        elif tool_choice == "required":
            message = f"{where}: a tool of type {tool.type!r} cannot be offered, and tool_choice requires a call"
            raise APIError(400, message, code="unsupported_parameter", param=f"{where}.type")
        else:
            ignored.append(f"{where} ({tool.type})")
    names = Counter(tool.name for _, tool in functions)
    offered = OfferedTools([], ignored, {})
    for namespace, tool in functions:
        name = str(tool.name)
        if namespace is not None:
            own, name = name, name if names[name] == 1 else f"{namespace.rstrip('_')}__{name}"[-_MAX_NAME:]
            offered.namespaces[name] = (namespace, own)
        function = tool.model_dump(exclude={"type", "name", "tools"}, exclude_none=True)
        offered.tools.append(Tool(type="function", function=FunctionDefinition(name=name, **function)))
    return offered


def _flat(tools: Sequence[ResponseTool]) -> Iterator[tuple[str, str | None, ResponseTool]]:
    """Yield tools, and those inside a namespace instead of the namespace, each with its place and namespace."""
    for i, tool in enumerate(tools):
        if tool.type != "namespace" or tool.name is None:
            yield f"tools.{i}", None, tool
            continue
        for k, inner in enumerate(tool.tools or ()):
            yield f"tools.{i}.tools.{k}", tool.name, inner
