"""Tools and the choice among them, checked and brought into one form."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from nad_agents.exceptions import ConfigurationError

__all__ = ["argument_schemas", "check_tool", "checked_tools", "tool_choice_name"]


def tool_choice_name(choice: Any, names: Sequence[str]) -> str | None:
    """Return a tool choice in one form: "auto", "required", "none", or the name of a tool; None stays None.

    Args:
        choice: None, a bool, "auto", "any", "required", "none", a tool's name, or OpenAI's or Anthropic's dict.
        names: Names of the tools on offer.

    Raises:
        ConfigurationError: The choice names a tool that is not on offer, or is of no known form.
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


def checked_tools(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return tools in OpenAI's form without repetitions.

    Args:
        tools: Tools in OpenAI's form.

    Raises:
        ConfigurationError: An entry is no tool that a model can call, or two different tools have one name.
    """
    by_name: dict[str, dict[str, Any]] = {}
    for tool in tools:
        try:
            checked = check_tool(tool)
        except ValueError as error:
            msg = f"{tool!r} cannot be used as a tool: {error}"
            raise ConfigurationError(msg) from error
        name = checked["function"]["name"]
        known = by_name.setdefault(name, checked)
        # a tool may be on offer in two forms, as a class and as its schema
        if _parameter_names(known) != _parameter_names(checked):
            msg = f"two tools are named {name!r}; rename one, since a call could mean either"
            raise ConfigurationError(msg)
    return list(by_name.values())


def check_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return one tool in OpenAI's form after checking that a model can call it.

    Args:
        tool: A tool in OpenAI's form.

    Raises:
        ValueError: The tool runs at its vendor only, has no name, or its parameters are not the schema of an object.
    """
    if not isinstance(tool, Mapping):
        msg = "it is not a tool in OpenAI's form"
        raise ValueError(msg)  # noqa: TRY004 - reported like every other fault of a tool
    function = tool.get("function")
    if not isinstance(function, Mapping) or not function.get("name"):
        kind = tool.get("type")
        msg = "it has no name" if kind == "function" else f"tools of type {kind!r} run at their vendor only"
        raise ValueError(msg)
    parameters = function.get("parameters") or {}
    if not isinstance(parameters, Mapping) or parameters.get("type", "object") != "object":
        msg = f"its parameters are no schema of an object: {parameters!r}"
        raise ValueError(msg)
    return dict(tool)


def argument_schemas(tools: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the schema of each tool's arguments by the tool's name.

    Args:
        tools: Tools in OpenAI's form.
    """
    return {tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in tools}


def _parameter_names(tool: Mapping[str, Any]) -> set[str]:
    return set(tool["function"].get("parameters", {}).get("properties", {}))
