"""LangChain's kinds of tools, converted to OpenAI's form."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel
from pydantic.v1 import BaseModel as BaseModelV1
from typing_extensions import is_typeddict

from nad_agents.chat.class_schemas import class_schema, plain_class_schema, typed_dict_schema
from nad_agents.chat.tools import check_tool, checked_tools
from nad_agents.constrained.subschemas import inline_root, is_recursive
from nad_agents.exceptions import ConfigurationError

__all__ = ["openai_tools", "recursive_type_schema", "whole_class_schema", "whole_schema"]

Tool = dict[str, Any] | type | Callable[..., Any] | BaseTool


def openai_tools(
    tools: Sequence[Tool], *, strict: bool | None = None, require_description: bool = False
) -> list[dict[str, Any]]:
    """Return tools in OpenAI's form.

    Args:
        tools: Functions, pydantic classes, LangChain tools, or tools in OpenAI's form.
        strict: Passed on with each tool.
        require_description: Whether a function or a dict without a description is refused. A class may do without
            one, since its fields describe it.

    Raises:
        ConfigurationError: An entry is no tool, lacks a description, or two tools have one name.
    """
    found = []
    for tool in tools:
        try:
            converted = _openai_tool(tool, strict=strict)
            description = converted["function"].get("description")
            # LangChain makes tools of classes with an empty description
            needed = description is None or inspect.isfunction(tool) or isinstance(tool, Mapping)
            if require_description and not description and needed:
                advice = "write a docstring" if inspect.isfunction(tool) else "give it a 'description'"
                msg = f"it has no description, by which models choose; {advice}"
                raise ValueError(msg)  # noqa: TRY301 - reported like what langchain-core refuses
            found.append(converted)
        except (AttributeError, TypeError, ValueError) as error:
            # langchain-core requires a name even from a callable that is not a function
            msg = f"{getattr(tool, '__name__', tool)!r} cannot be used as a tool: {error}"
            raise ConfigurationError(msg) from error
    return checked_tools(found)


def _openai_tool(tool: Tool, *, strict: bool | None) -> dict[str, Any]:
    tool = recursive_type_schema(tool) or tool
    converted = check_tool(convert_to_openai_tool(tool, strict=strict))
    whole = _whole_schema(tool)
    if whole is not None:
        function = converted["function"]
        kept = {name: value for name, value in whole.items() if name not in {"title", "description", "name"}}
        converted = {**converted, "function": {**function, "parameters": {"type": "object", **kept}}}
    if is_typeddict(tool) and tool.__doc__ in (None, dict.__doc__):
        # langchain-core would describe it as the built-in dict
        return {**converted, "function": {**converted["function"], "description": ""}}
    return converted


def recursive_type_schema(cls: Any) -> dict[str, Any] | None:
    """Return the schema of a TypedDict or a dataclass that refers to itself; None for anything else.

    langchain-core cannot convert such a TypedDict.
    """
    if not (is_typeddict(cls) or (inspect.isclass(cls) and is_dataclass(cls))):
        return None
    schema = typed_dict_schema(cls) if is_typeddict(cls) else class_schema(cls)
    if schema is None or not is_recursive(schema):
        return None
    described = "" if cls.__doc__ in (None, dict.__doc__) else inspect.cleandoc(cls.__doc__)
    return {**schema, "title": cls.__name__, "description": described}


def whole_class_schema(cls: Any) -> dict[str, Any] | None:
    """Return the schema of a class if langchain-core's conversion would lose a part of it, else None.

    langchain-core inlines references, which drops recursive ones, and describes a Decimal as any string.

    Args:
        cls: A pydantic class or a dataclass; the function returns None for any other class.
    """
    if not inspect.isclass(cls):
        return None
    if issubclass(cls, BaseModelV1):
        schema = inline_root(cls.schema())
        return schema if is_recursive(schema) else None
    if not (issubclass(cls, BaseModel) or is_dataclass(cls)):
        return None
    schema = class_schema(cls)
    return schema if is_recursive(schema) or schema != plain_class_schema(cls) else None


def whole_schema(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a JSON schema, or that of a tool's arguments, where langchain-core's conversion would lose recursion."""
    function = schema.get("function", schema)
    found = function.get("parameters", function.get("input_schema", function))
    return inline_root(found) if isinstance(found, Mapping) and is_recursive(found) else None


def _whole_schema(tool: Tool) -> dict[str, Any] | None:
    if isinstance(tool, Mapping):
        return whole_schema(tool)
    if isinstance(tool, BaseTool):
        described: Any = tool.tool_call_schema
        return whole_schema(described) if isinstance(described, Mapping) else whole_class_schema(described)
    if inspect.isroutine(tool):
        return whole_class_schema(StructuredTool.from_function(tool, description="-").tool_call_schema)
    return whole_class_schema(tool)
