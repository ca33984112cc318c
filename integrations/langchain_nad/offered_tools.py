"""Tools as callers offer them, and the choice among them, in one form."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, is_typeddict

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from nad_agents.exceptions import ConfigurationError

__all__ = ["openai_tools", "tool_choice_name"]

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
    by_name: dict[str, dict[str, Any]] = {}
    for tool in found:
        name = tool["function"]["name"]
        known = by_name.setdefault(name, tool)
        # the same tool in two forms, a class and its schema say, is one tool
        if _parameter_names(known) != _parameter_names(tool):
            msg = f"two tools are named {name!r}; rename one, since a call could mean either"
            raise ConfigurationError(msg)
    return list(by_name.values())


def tool_of(tool: Tool, *, strict: bool | None = None) -> dict[str, Any]:
    """One tool in OpenAI's form.

    Raises:
        TypeError: it is no tool.
        ValueError: it is one that only its vendor runs, has no name, or langchain-core cannot convert it.
    """
    converted = convert_to_openai_tool(tool, strict=strict)
    function = converted.get("function")
    if not isinstance(function, dict) or not function.get("name"):
        kind = converted.get("type")
        msg = "it has no name" if kind == "function" else f"tools of type {kind!r} run at their vendor only"
        raise ValueError(msg)
    parameters = function.get("parameters") or {}
    if not isinstance(parameters, Mapping) or parameters.get("type", "object") != "object":
        msg = f"its parameters are no schema of an object: {parameters!r}"
        raise ValueError(msg)
    if is_typeddict(tool) and tool.__doc__ in (None, dict.__doc__):
        # langchain-core would describe it as the built-in dict
        return {**converted, "function": {**function, "description": ""}}
    return converted


def _parameter_names(tool: Mapping[str, Any]) -> set[str]:
    return set(tool["function"].get("parameters", {}).get("properties", {}))


def tool_choice_name(choice: Any, names: Sequence[str]) -> str | None:
    """A tool choice in one form: "auto", "required", "none", or the name of a tool; None stays None.

    Args:
        choice: None, a bool, "auto", "any", "required", "none", a tool's name, or OpenAI's or Anthropic's dict.
        names: the tools on offer.

    Raises:
        ConfigurationError: the choice names a tool that is not on offer, or is of no known form.
    """
    if choice is None:
        return None
    if isinstance(choice, Mapping):
        kind = choice.get("type")
        if kind in {"auto", "any", "none", "required"}:
            return tool_choice_name(kind, names)
        choice = choice.get("name") or (choice.get("function") or {}).get("name") or dict(choice)
    if isinstance(choice, bool):
        choice = "required" if choice else "none"
    if choice in ("any", "required"):
        if not names:
            msg = f"tool_choice={choice!r} asks for a call, but there are no tools; bind some"
            raise ConfigurationError(msg)
        return "required"
    if choice in ("auto", "none"):
        return str(choice)
    if not isinstance(choice, str) or choice not in names:
        near = difflib.get_close_matches(str(choice), names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"bound are {', '.join(names) or 'none'}"
        msg = f"tool_choice={choice!r} names no bound tool; {hint}"
        raise ConfigurationError(msg)
    return str(choice)
