"""Estimate how short JSON text of a schema can be, and how much text one token may add to it.

Both numbers tell how many tokens an answer needs until its end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from nad_agents.constrained.number_endings import shortest_number
from nad_agents.constrained.regex_width import pattern_widths
from nad_agents.constrained.subschemas import resolve_reference

__all__ = ["openings", "shortest_instance", "unmerged"]

_DEPTH = 8
"""Nesting depth at which a recursive schema is taken to end."""


def shortest_instance(schema: Any, root: Any = None, depth: int = 0) -> str:
    """Return approximately the shortest JSON text that fits a schema.

    Args:
        schema: A JSON schema.
        root: Schema in which references are looked up; the schema itself if None.
        depth: Nesting depth of the schema so far.
    """
    root = schema if root is None else root
    if not isinstance(schema, dict) or depth > _DEPTH:
        return "{}"
    options = next((schema[key] for key in ("anyOf", "oneOf") if schema.get(key)), None)
    if "$ref" in schema:
        found = shortest_instance(resolve_reference(str(schema["$ref"]), root), root, depth + 1)
    elif "const" in schema or "enum" in schema:
        found = min((json.dumps(value) for value in schema.get("enum", [schema.get("const")])), key=len)
    elif options or schema.get("allOf"):
        texts = [shortest_instance(option, root, depth + 1) for option in options or schema["allOf"]]
        found = min(texts, key=len) if options else max(texts, key=len)
    else:
        found = _shortest_of_type(schema, root, depth)
    return found


def _shortest_of_type(schema: dict[str, Any], root: Any, depth: int) -> str:
    kinds = schema.get("type", "object")
    kind = kinds[-1] if isinstance(kinds, list) else kinds
    if kind == "object":
        properties = schema.get("properties", {})
        inside = (
            f"{json.dumps(name)}: {shortest_instance(properties.get(name, {}), root, depth + 1)}"
            for name in schema.get("required", ())
        )
        missing = int(schema.get("minProperties", 0)) - len(schema.get("required", ()))
        value = shortest_instance(schema.get("additionalProperties", {"type": "integer"}), root, depth + 1)
        others = [f"{json.dumps('a' * i)}: {value}" for i in range(missing)]
        return "{" + ", ".join([*inside, *others]) + "}"
    if kind == "array":
        item = shortest_instance(schema.get("items", {}), root, depth + 1)
        return "[" + ", ".join([item] * int(schema.get("minItems", 0))) + "]"
    if kind == "string":
        return json.dumps("a" * _string_length(schema))
    if kind in {"number", "integer"}:
        return shortest_number(schema, integer=kind == "integer")
    return {"boolean": "true", "null": "null"}.get(kind, "0")


def openings(schema: Any) -> Iterator[str]:
    """Yield the JSON text that one token may commit a candidate to: everything optional, each at its shortest.

    Args:
        schema: A JSON schema.
    """
    seen: list[Any] = []

    def search(part: Any) -> Iterator[str]:
        if not isinstance(part, dict) or any(part is one for one in seen):
            return
        seen.append(part)
        if "pattern" in part and (more := pattern_widths(part["pattern"])[1]):
            yield unmerged(more)
        for name, inner in part.get("properties", {}).items():
            if name not in part.get("required", ()):
                yield f"{json.dumps(name)}: {shortest_instance(inner, schema)}, "
            yield from search(inner)
        free = [part[key] for key in ("items", "additionalProperties") if isinstance(part.get(key), dict)]
        free += [option for key in ("anyOf", "oneOf", "prefixItems") for option in part.get(key, ())]
        free += part.get("patternProperties", {}).values()
        for inner in free:
            yield f"{shortest_instance(inner, schema)}, "
            yield from search(inner)
        for inner in (*part.get("allOf", ()), *part.get("$defs", {}).values(), *part.get("definitions", {}).values()):
            yield from search(inner)

    return search(schema)


def _string_length(schema: dict[str, Any]) -> int:
    """Return approximately the minimum length of a string."""
    least = int(schema.get("minLength", 24 if "format" in schema else 0))
    return max(least, pattern_widths(schema["pattern"])[0]) if "pattern" in schema else least


def unmerged(length: int) -> str:
    """Return text of a length in which hardly any two characters share a token."""
    return ("q0#Z" * length)[:length]
