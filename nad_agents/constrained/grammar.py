"""Grammars of answers, as text; this module imports neither torch nor llguidance, which are slow to import."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nad_agents.constrained.shortest_json import openings, shortest_instance

__all__ = ["Grammar", "json_grammar", "json_rule"]

_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""White space as models write it in JSON; if it were free, a small model could pad an answer without end."""


@dataclass(frozen=True)
class Grammar:
    """A grammar of answers, with what is needed to complete them in time and to report errors.

    Attributes:
        lark: The grammar in llguidance's dialect of Lark; it has no rule `start` while it is only a part of a grammar.
        about: What the grammar describes, for error messages.
        shortest: Approximately the shortest answer, from which the number of tokens needed is computed; empty if
            unknown.
        json: Whether the answer is JSON, or JSON between delimiters.
        openings: Text that one token may commit a candidate to: items of a list, optional fields, alternatives.
        schemas: The JSON schemas in the grammar by what each is about, to find the part that cannot be expressed.
    """

    lark: str
    about: str
    shortest: str = ""
    json: bool = True
    openings: tuple[str, ...] = ()
    schemas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def starting(self, alternatives: str) -> Grammar:
        """Complete the grammar with a rule `start` for answers that follow one of its rules.

        Args:
            alternatives: Names of rules, separated by ``|``.
        """
        return replace(self, lark=f"start: {alternatives}\n{self.lark}")

    def beside(self, other: Grammar) -> Grammar:
        """Combine the rules of two grammars, for an answer that may follow either."""
        ends = (self.shortest, other.shortest)
        return Grammar(
            self.lark + other.lark,
            f"{self.about} or {other.about}",
            max(ends, key=len),
            self.json and other.json,
            (*self.openings, *other.openings, *ends),
            {**self.schemas, **other.schemas},
        )


def json_rule(name: str, schema: Mapping[str, Any]) -> str:
    """Return a grammar rule for values of a JSON schema.

    Args:
        name: Name of the rule.
        schema: The JSON schema.
    """
    return f"{name}: %json {json.dumps({**schema, 'x-guidance': _SPACING})}\n"


def json_grammar(schema: Mapping[str, Any], about: str, *, rule: str = "start") -> Grammar:
    """Make the grammar of values of a JSON schema.

    Args:
        schema: Schema of the answer; an object schema that names properties allows no others unless it says so.
        about: What the schema describes, for error messages.
        rule: Name of the schema's rule; with a name other than `start` the grammar is a part of one.
    """
    if schema.get("type") == "object" and "properties" in schema:
        schema = {"additionalProperties": False, **schema}
    return Grammar(
        json_rule(rule, schema),
        about,
        shortest_instance(schema),
        openings=tuple(openings(schema)),
        schemas={about: schema},
    )
