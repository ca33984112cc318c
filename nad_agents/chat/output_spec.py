"""`OutputSpec`: the kind of answer that a call asks for (prose, tool calls, text of a shape) and the grammar for it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nad_agents.chat.tool_formats import ToolFormat
from nad_agents.chat.tools import checked_tools, tool_choice_name
from nad_agents.constrained.grammar import Grammar, json_grammar, json_rule
from nad_agents.constrained.regex_width import pattern_widths
from nad_agents.constrained.schema_narrowing import narrow_schema
from nad_agents.constrained.shortest_json import openings, shortest_instance, unmerged
from nad_agents.constrained.subschemas import inline_root
from nad_agents.exceptions import ConfigurationError

__all__ = ["OUTPUT_ARGUMENTS", "OutputSpec"]

OUTPUT_ARGUMENTS = {"tools", "tool_choice", "parallel_tool_calls", "response_format", "strict", "chat_template_kwargs"}
"""Arguments of a call that say what kind of answer is asked for."""


@dataclass(frozen=True)
class OutputSpec:
    """The kind of answer that a call asks for.

    Attributes:
        tools: Tools on offer, in OpenAI's form.
        choice: "auto", "required", "none", or the name of the tool to call.
        parallel: Whether an answer may hold several calls; None leaves it to the model where it is free to choose, and
            means one call where a call is forced.
        response_format: Shape of an answer that is no call: ``json_schema`` and ``json_object`` as OpenAI has them,
            ``{"type": "regex", "pattern": ...}`` or ``{"type": "choice", "choices": [...]}``.
        chat_template_kwargs: Variables of the chat template, which say how the model is to answer, thinking first or
            not.
    """

    tools: tuple[dict[str, Any], ...] = ()
    choice: str = "auto"
    parallel: bool | None = None
    response_format: Mapping[str, Any] | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> OutputSpec:
        """Read the arguments of a call.

        Args:
            arguments: The call's arguments; those of `OUTPUT_ARGUMENTS` are read, with tools in OpenAI's form.

        Raises:
            ConfigurationError: A tool, the choice among the tools, or the response format cannot be used.
        """
        tools = checked_tools(arguments.get("tools") or ())
        choice = tool_choice_name(arguments.get("tool_choice"), [t["function"]["name"] for t in tools]) or "auto"
        response_format = arguments.get("response_format")
        if response_format is not None:
            _check_response_format(response_format)
        # tools that must not be called would only distract the model
        tools = [] if choice == "none" else tools
        variables = arguments.get("chat_template_kwargs") or {}
        return cls(tuple(tools), choice, arguments.get("parallel_tool_calls"), response_format, variables)

    @property
    def names(self) -> list[str]:
        """Names of the tools on offer."""
        return [tool["function"]["name"] for tool in self.tools]

    @property
    def forced(self) -> bool:
        """Whether the answer has to be a tool call."""
        return bool(self.tools) and self.choice != "auto"

    @property
    def constrained(self) -> bool:
        """Whether every candidate is held to a grammar."""
        return self.forced or (self.response_format is not None and self.response_format["type"] != "text")

    @property
    def callable_tools(self) -> tuple[dict[str, Any], ...]:
        """Tools that this answer may call."""
        if self.choice in {"auto", "required"}:
            return self.tools
        return tuple(tool for tool in self.tools if tool["function"]["name"] == self.choice)

    def instructions(self, tool_format: ToolFormat) -> str:
        """Return the instructions that the system message must add to what the chat template says; may be empty.

        Args:
            tool_format: How the model writes calls.
        """
        parts = []
        if self.tools and not tool_format.in_template:
            listed = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in self.tools)
            example = tool_format.write("name of the tool", {"argument": "value"})
            parts.append(
                f"You can use these tools:\n{listed}\n\nTo use one, answer with nothing but JSON, like this:\n{example}"
            )
        schema = _schema_of(self.response_format)
        if schema is not None and schema.get("properties"):
            written = json.dumps(schema, ensure_ascii=False)
            parts.append(f"Answer with nothing but JSON that fits this schema:\n{written}")
        return "\n\n".join(parts)

    def grammar(self, tool_format: ToolFormat, literal: Callable[[str], str]) -> Grammar:
        """Return the grammar that every candidate has to follow where `constrained` is true.

        Args:
            tool_format: How the model writes calls.
            literal: Turns text into a terminal of the grammar, special tokens in it included.
        """
        calls = self._call_rules(tool_format, literal) if self.tools else None
        if self.forced:
            assert calls is not None
            return calls.starting("calls")
        assert self.response_format is not None
        shape = _shape_rules(self.response_format)
        if calls is None:
            return shape.starting("shape")
        return calls.beside(shape).starting("calls | shape")

    def _call_rules(self, tool_format: ToolFormat, literal: Callable[[str], str]) -> Grammar:
        rules: list[str] = []
        shortest: list[str] = []
        commitments: list[str] = []
        schemas: dict[str, Mapping[str, Any]] = {}
        tools = self.callable_tools
        for i, tool in enumerate(tools):
            function = tool["function"]
            schema = function.get("parameters") or {"type": "object", "properties": {}}
            schema = narrow_schema({"type": "object", "additionalProperties": False, **inline_root(schema)})
            head = f'{{"name": {json.dumps(function["name"], ensure_ascii=False)}, "{tool_format.arguments}": '
            rules.append(f"call_{i}: {json.dumps(head, ensure_ascii=False)} arguments_{i} {json.dumps('}')}\n")
            rules.append(json_rule(f"arguments_{i}", schema))
            shortest.append(f"{tool_format.begin}{head}{shortest_instance(schema)}}}{tool_format.end}")
            commitments += openings(schema)
            schemas[f"the arguments of {function['name']}"] = schema
        any_call = " | ".join(f"call_{i}" for i in range(len(tools)))
        begin, end, opening, closing, separator = (
            literal(text) if text else ""
            for text in (
                tool_format.begin, tool_format.end, tool_format.opening, tool_format.closing, tool_format.separator
            )
        )  # fmt: skip
        one = " ".join(part for part in (begin, "body", end) if part)
        more = f"({separator} one)*" if self.parallel else ""
        calls = " ".join(part for part in (opening, f"one {more}", closing) if part)
        rules.append(f"calls: {calls}\none: {one}\nbody: {any_call}\n")
        subject = f"the arguments of {', '.join(tool['function']['name'] for tool in tools)}"
        # a tool's name commits to its arguments, and so does the beginning of a further call
        commitments += shortest if len(tools) > 1 or self.parallel else []
        return Grammar("".join(rules), subject, max(shortest, key=len), openings=tuple(commitments), schemas=schemas)


def _check_response_format(response_format: Any) -> None:
    """Refuse a response format of an unknown form with a ConfigurationError that shows the known ones."""
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    well_formed = {
        "text": True,
        "json_object": True,
        "json_schema": kind == "json_schema" and isinstance(_schema_of(response_format), Mapping),
        "regex": kind == "regex" and isinstance(response_format.get("pattern"), str),
        "choice": kind == "choice" and _is_nonempty_list(response_format.get("choices")),
    }
    if not well_formed.get(str(kind)):
        msg = (
            f"response_format={response_format!r} is not understood; give {{'type': 'json_schema', 'json_schema': "
            "{'name': ..., 'schema': ...}}, {'type': 'json_object'}, {'type': 'regex', 'pattern': ...}, "
            "{'type': 'choice', 'choices': [...]} or {'type': 'text'}"
        )
        raise ConfigurationError(msg)


def _is_nonempty_list(choices: Any) -> bool:
    return isinstance(choices, Sequence) and not isinstance(choices, str) and bool(choices)


def _schema_of(response_format: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if response_format is None or response_format.get("type") != "json_schema":
        return None
    found = response_format.get("json_schema")
    return found.get("schema") if isinstance(found, Mapping) else None


def _shape_rules(response_format: Mapping[str, Any]) -> Grammar:
    """Return the grammar of a response format, whose rule is ``shape``."""
    kind = response_format["type"]
    if kind == "regex":
        # a slash ends a pattern in Lark, unless the pattern escapes it already
        pattern = re.sub(r"(?<!\\)((?:\\\\)*)/", r"\1\\/", response_format["pattern"])
        # \d would allow the digits of every script
        pattern = re.sub(r"(?<!\\)((?:\\\\)*)\\d", r"\1[0-9]", pattern)
        least, more = pattern_widths(response_format["pattern"])
        subject = "the pattern of the response format"
        return Grammar(f"shape: /{pattern}/\n", subject, "a" * least, json=False, openings=(unmerged(more),))
    if kind == "choice":
        texts = [str(choice) for choice in response_format["choices"]]
        choices = " | ".join(json.dumps(text, ensure_ascii=False) for text in texts)
        return Grammar(f"shape: {choices}\n", "the choices of the response format", max(texts, key=len), json=False)
    schema = _schema_of(response_format) or {"type": "object"}
    # json_object may bring a schema that constrains without being shown to the model
    schema = narrow_schema(response_format.get("schema") or schema)
    return json_grammar(schema, f"the schema of {schema.get('title') or 'the response format'}", rule="shape")
