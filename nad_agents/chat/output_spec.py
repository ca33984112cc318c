"""What kind of answer a call asks for: prose, tool calls, or text of a given shape; and the grammar for it."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nad_agents.chat.tool_formats import ToolFormat
from nad_agents.constrained.grammar import Grammar, json_grammar, json_rule
from nad_agents.constrained.regex_width import pattern_widths
from nad_agents.constrained.schema_narrowing import narrow_schema
from nad_agents.constrained.shortest_json import openings, shortest_instance, unmerged
from nad_agents.exceptions import ConfigurationError

__all__ = ["OUTPUT_ARGUMENTS", "OutputSpec", "check_tool", "checked_tools", "tool_choice_name"]


OUTPUT_ARGUMENTS = {"tools", "tool_choice", "parallel_tool_calls", "response_format", "strict", "chat_template_kwargs"}
"""Arguments of a call that this module reads."""


@dataclass(frozen=True)
class OutputSpec:
    """What a call asks for.

    Attributes:
        tools: tools on offer, in OpenAI's form.
        choice: "auto", "required", "none", or the name of the tool to call.
        parallel: whether an answer may hold several calls; None leaves it to the model where it is free to choose, and
            means one where a call is forced.
        response_format: shape of an answer that is no call: ``json_schema`` and ``json_object`` as OpenAI has them,
            ``{"type": "regex", "pattern": ...}`` or ``{"type": "choice", "choices": [...]}``.
        template_options: variables of the chat template, which say how the model is to answer, thinking first or not.
    """

    tools: tuple[dict[str, Any], ...] = ()
    choice: str = "auto"
    parallel: bool | None = None
    response_format: Mapping[str, Any] | None = None
    template_options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> OutputSpec:
        """Read the arguments of a call.

        Raises:
            ConfigurationError: see `checked_tools`, `tool_choice_name`; or the response format is unknown.
        """
        tools = checked_tools(arguments.get("tools") or ())
        choice = tool_choice_name(arguments.get("tool_choice"), [t["function"]["name"] for t in tools]) or "auto"
        response_format = arguments.get("response_format")
        if response_format is not None:
            check_response_format(response_format)
        # without a choice to make, the tools would only distract
        tools = [] if choice == "none" else tools
        variables = arguments.get("chat_template_kwargs") or {}
        return cls(tuple(tools), choice, arguments.get("parallel_tool_calls"), response_format, variables)

    @property
    def names(self) -> list[str]:
        """Names of the tools on offer."""
        return [tool["function"]["name"] for tool in self.tools]

    @property
    def forced(self) -> bool:
        """Whether the answer has to be a call."""
        return bool(self.tools) and self.choice != "auto"

    @property
    def constrained(self) -> bool:
        """Whether a grammar holds the answer."""
        return self.forced or (self.response_format is not None and self.response_format["type"] != "text")

    @property
    def callable_tools(self) -> tuple[dict[str, Any], ...]:
        """Tools that this answer may call."""
        if self.choice in {"auto", "required"}:
            return self.tools
        return tuple(tool for tool in self.tools if tool["function"]["name"] == self.choice)

    def instructions(self, form: ToolFormat) -> str:
        """What the system message has to add, because the chat template does not say it; may be empty."""
        parts = []
        if self.tools and not form.in_template:
            listed = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in self.tools)
            example = form.write("name of the tool", {"argument": "value"})
            parts.append(
                f"You can use these tools:\n{listed}\n\nTo use one, answer with nothing but JSON, like this:\n{example}"
            )
        schema = _schema_of(self.response_format)
        if schema is not None and schema.get("properties"):
            fits = json.dumps(schema, ensure_ascii=False)
            parts.append(f"Answer with nothing but JSON that fits this schema:\n{fits}")
        return "\n\n".join(parts)

    def grammar(self, form: ToolFormat, literal: Callable[[str], str]) -> Grammar:
        """What every candidate has to follow, for a constrained output_spec.

        Args:
            form: how the model writes calls.
            literal: writes text as it stands into the grammar, tokens of their own included.
        """
        calls = self._call_rules(form, literal) if self.tools else None
        if self.forced:
            assert calls is not None
            return calls.starting("calls")
        assert self.response_format is not None
        shape = _shape_rules(self.response_format)
        if calls is None:
            return shape.starting("shape")
        return calls.beside(shape).starting("calls | shape")

    def _call_rules(self, form: ToolFormat, literal: Callable[[str], str]) -> Grammar:
        rules: list[str] = []
        shortest: list[str] = []
        commitments: list[str] = []
        schemas: dict[str, Mapping[str, Any]] = {}
        tools = self.callable_tools
        for i, tool in enumerate(tools):
            function = tool["function"]
            schema = function.get("parameters") or {"type": "object", "properties": {}}
            schema = narrow_schema({"type": "object", "additionalProperties": False, **schema})
            head = f'{{"name": {json.dumps(function["name"], ensure_ascii=False)}, "{form.arguments}": '
            rules.append(f"call_{i}: {json.dumps(head, ensure_ascii=False)} arguments_{i} {json.dumps('}')}\n")
            rules.append(json_rule(f"arguments_{i}", schema))
            shortest.append(f"{form.begin}{head}{shortest_instance(schema)}}}{form.end}")
            commitments += openings(schema)
            schemas[f"the arguments of {function['name']}"] = schema
        any_call = " | ".join(f"call_{i}" for i in range(len(tools)))
        one = " ".join(part for part in (_text(form.begin, literal), "body", _text(form.end, literal)) if part)
        more = f"({_text(form.separator, literal)} one)*" if self.parallel else ""
        around = (_text(form.opening, literal), f"one {more}", _text(form.closing, literal))
        rules.append(f"calls: {' '.join(part for part in around if part)}\none: {one}\nbody: {any_call}\n")
        about = f"the arguments of {', '.join(tool['function']['name'] for tool in tools)}"
        # a tool's name commits to its arguments, and so does the beginning of a further call
        commitments += shortest if len(tools) > 1 or self.parallel else []
        return Grammar("".join(rules), about, max(shortest, key=len), openings=tuple(commitments), schemas=schemas)


def _text(text: str, literal: Callable[[str], str]) -> str:
    return literal(text) if text else ""


def check_response_format(response_format: Any) -> None:
    """Refuse a response format that is none.

    Raises:
        ConfigurationError: says which forms there are.
    """
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    well_formed = {
        "text": True,
        "json_object": True,
        "json_schema": kind == "json_schema" and isinstance(_schema_of(response_format), Mapping),
        "regex": kind == "regex" and isinstance(response_format.get("pattern"), str),
        "choice": kind == "choice" and _listed(response_format.get("choices")),
    }
    if not well_formed.get(str(kind)):
        msg = (
            f"response_format={response_format!r} is not understood; give {{'type': 'json_schema', 'json_schema': "
            "{'name': ..., 'schema': ...}}, {'type': 'json_object'}, {'type': 'regex', 'pattern': ...}, "
            "{'type': 'choice', 'choices': [...]} or {'type': 'text'}"
        )
        raise ConfigurationError(msg)


def _listed(choices: Any) -> bool:
    return isinstance(choices, Sequence) and not isinstance(choices, str) and bool(choices)


def _schema_of(response_format: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if response_format is None or response_format.get("type") != "json_schema":
        return None
    found = response_format.get("json_schema")
    return found.get("schema") if isinstance(found, Mapping) else None


def _shape_rules(response_format: Mapping[str, Any]) -> Grammar:
    """The grammar rule ``shape``."""
    kind = response_format["type"]
    if kind == "regex":
        # a slash ends a pattern in Lark, unless the pattern escapes it already
        pattern = re.sub(r"(?<!\\)((?:\\\\)*)/", r"\1\\/", response_format["pattern"])
        # \d has the digits of every script, which nobody asks for
        pattern = re.sub(r"(?<!\\)((?:\\\\)*)\\d", r"\1[0-9]", pattern)
        least, more = pattern_widths(response_format["pattern"])
        about = "the pattern of the response format"
        return Grammar(f"shape: /{pattern}/\n", about, "a" * least, json=False, openings=(unmerged(more),))
    if kind == "choice":
        texts = [str(choice) for choice in response_format["choices"]]
        choices = " | ".join(json.dumps(text, ensure_ascii=False) for text in texts)
        return Grammar(f"shape: {choices}\n", "the choices of the response format", max(texts, key=len), json=False)
    schema = _schema_of(response_format) or {"type": "object"}
    # json_object may bring a schema that constrains without being shown to the model
    schema = narrow_schema(response_format.get("schema") or schema)
    return json_grammar(schema, f"the schema of {schema.get('title') or 'the response format'}", rule="shape")


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


def checked_tools(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return tools in OpenAI's form without repetitions.

    Raises:
        ConfigurationError: an entry is no tool that a model can call, or two different tools have one name.
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
        # the same tool in two forms, a class and its schema say, is one tool
        if _parameter_names(known) != _parameter_names(checked):
            msg = f"two tools are named {name!r}; rename one, since a call could mean either"
            raise ConfigurationError(msg)
    return list(by_name.values())


def check_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return one tool in OpenAI's form after checking that a model can call it.

    Raises:
        ValueError: the tool runs at its vendor only, has no name, or its parameters are not the schema of an object.
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


def _parameter_names(tool: Mapping[str, Any]) -> set[str]:
    return set(tool["function"].get("parameters", {}).get("properties", {}))
