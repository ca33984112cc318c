"""LangChain's kinds of tools, converted to OpenAI's form."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, is_typeddict

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from nad_agents.chat.tools import check_tool, checked_tools
from nad_agents.exceptions import ConfigurationError

__all__ = ["openai_tools"]

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
        except (TypeError, ValueError) as error:
            msg = f"{getattr(tool, '__name__', tool)!r} cannot be used as a tool: {error}"
            raise ConfigurationError(msg) from error
    return checked_tools(found)


def _openai_tool(tool: Tool, *, strict: bool | None) -> dict[str, Any]:
    converted = check_tool(convert_to_openai_tool(tool, strict=strict))
    if is_typeddict(tool) and tool.__doc__ in (None, dict.__doc__):
        # langchain-core would describe it as the built-in dict
        return {**converted, "function": {**converted["function"], "description": ""}}
    return converted
