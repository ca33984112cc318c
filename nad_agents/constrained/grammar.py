"""What an answer may look like, written down; imports neither torch nor llguidance, which take a while."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nad_agents.constrained.shortest_json import openings, shortest_instance

__all__ = ["Grammar", "json_grammar", "json_rule"]

_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""As models write JSON; free whitespace would let a small model pad for ever."""


@dataclass(frozen=True)
class Grammar:
    """What an answer may look like.

    Attributes:
        lark: the grammar in llguidance's dialect of Lark; without the rule `start` as long as it is a part.
        about: what it describes, for error messages.
        shortest: about the shortest answer, which tells how many tokens are needed; empty where nobody knows.
        json: whether the answer is JSON, or JSON between marks.
        openings: what one token may commit a candidate to: items of a list, optional fields, alternatives.
        schemas: what each JSON schema in it is about, and the schema; tell which part of which cannot be expressed.
    """

    lark: str
    about: str
    shortest: str = ""
    json: bool = True
    openings: tuple[str, ...] = ()
    schemas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def starting(self, alternatives: str) -> Grammar:
        """The whole grammar of answers that are one of these rules."""
        return replace(self, lark=f"start: {alternatives}\n{self.lark}")

    def beside(self, other: Grammar) -> Grammar:
        """The rules of both, for an answer that may be of either kind."""
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
    """A grammar rule for values of a JSON schema."""
    return f"{name}: %json {json.dumps({**schema, 'x-guidance': _SPACING})}\n"


def json_grammar(schema: Mapping[str, Any], about: str, *, rule: str = "start") -> Grammar:
    """The grammar of values of a JSON schema.

    Args:
        schema: what an answer is; objects that name properties have no others.
        about: what it describes, for error messages.
        rule: the name of its rule; one other than `start` makes it a part.
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
