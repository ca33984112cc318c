"""Tools as callers offer them, and the choice among them, in one form."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, is_typeddict

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from nad_agents.chat.output_spec import check_tool, checked_tools
from nad_agents.exceptions import ConfigurationError

__all__ = ["openai_tools"]


Tool = dict[str, Any] | type | Callable[..., Any] | BaseTool


def openai_tools(tools: Sequence[Tool], *, strict: bool | None = None, described: bool = False) -> list[dict[str, Any]]:
    """Tools in OpenAI's form.

    Args:
        tools: see `NADChatModel.bind_tools`.
        strict: passed on with each tool.
        described: refuse a function or a dict that has no description. Classes may do without, as their fields speak.

    Raises:
        ConfigurationError: something is no tool, lacks a description, or two have one name.
    """
    found = []
    for tool in tools:
        try:
            converted = tool_of(tool, strict=strict)
            about = converted["function"].get("description")
            # the fields of a class speak for themselves, and LangChain makes tools of such classes
            if described and not about and (about is None or inspect.isfunction(tool) or isinstance(tool, Mapping)):
                advice = "write a docstring" if inspect.isfunction(tool) else "give it a 'description'"
                msg = f"it has no description, by which models choose; {advice}"
                raise ValueError(msg)  # noqa: TRY301 - reported like what langchain-core refuses
            found.append(converted)
        except (TypeError, ValueError) as error:
            msg = f"{getattr(tool, '__name__', tool)!r} cannot be used as a tool: {error}"
            raise ConfigurationError(msg) from error
    return checked_tools(found)


def tool_of(tool: Tool, *, strict: bool | None = None) -> dict[str, Any]:
    """One tool in OpenAI's form.

    Raises:
        TypeError: it is no tool.
        ValueError: it is one that only its vendor runs, has no name, or langchain-core cannot convert it.
    """
    converted = check_tool(convert_to_openai_tool(tool, strict=strict))
    if is_typeddict(tool) and tool.__doc__ in (None, dict.__doc__):
        # langchain-core would describe it as the built-in dict
        return {**converted, "function": {**converted["function"], "description": ""}}
    return converted
