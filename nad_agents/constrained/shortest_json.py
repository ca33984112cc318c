"""How short JSON of a schema can be, and what a token may add to it: how many tokens an answer has to be left."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

__all__ = ["openings", "pattern_growth", "pattern_widths", "shortest_instance", "unmerged"]

_DEPTH = 8
"""Where a recursive schema is taken to end."""

_LONGEST_STRING = 1000
"""Where a pattern's least width is no longer believed."""


def shortest_instance(schema: Any, root: Any = None, depth: int = 0) -> str:
    """About the shortest JSON text that fits a schema; tells how many tokens an answer needs at least.

    Args:
        schema: a JSON schema.
        root: where references are looked up; the schema itself unless given.
        depth: how deep the schema is nested so far.
    """
    root = schema if root is None else root
    if not isinstance(schema, dict) or depth > _DEPTH:
        return "{}"
    options = next((schema[key] for key in ("anyOf", "oneOf") if schema.get(key)), None)
    if "$ref" in schema:
        found = shortest_instance(_resolve(str(schema["$ref"]), root), root, depth + 1)
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
        return "{" + ", ".join(inside) + "}"
    if kind == "array":
        item = shortest_instance(schema.get("items", {}), root, depth + 1)
        return "[" + ", ".join([item] * int(schema.get("minItems", 0))) + "]"
    if kind == "string":
        return json.dumps("a" * _string_length(schema))
    return {"boolean": "true", "null": "null"}.get(kind, "0")


def _resolve(reference: str, root: Any) -> Any:
    target = root
    for part in reference.removeprefix("#/").split("/"):
        target = target.get(part, {}) if isinstance(target, dict) else {}
    return target


def openings(schema: Any) -> Iterator[str]:
    """JSON that a candidate may begin with one token, and then has to complete: what is optional, at its shortest.

    Args:
        schema: a JSON schema.
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
    """How many characters a string has at least, about."""
    least = int(schema.get("minLength", 24 if "format" in schema else 0))
    return max(least, pattern_widths(schema["pattern"])[0]) if "pattern" in schema else least


def pattern_widths(pattern: str) -> tuple[int, int]:
    """How many characters a regular expression needs at least, and how many more one choice in it may ask for.

    (0, 0) for what the standard library does not understand, as dialects differ.
    """
    with contextlib.suppress(re.error, AttributeError, OverflowError):
        # the standard library knows the width of a pattern, but has no public name for it
        parsed = re._parser.parse(pattern)  # type: ignore[attr-defined]
        return min(_width(parsed), _LONGEST_STRING), min(_choices(parsed), _LONGEST_STRING)
    return 0, 0


def unmerged(length: int) -> str:
    """Text of which hardly two characters share a token."""
    return ("q0#Z" * length)[:length]


def pattern_growth(schema: Any) -> int:
    """How many characters one choice in any of a schema's patterns may ask for."""
    if isinstance(schema, list):
        return max(map(pattern_growth, schema), default=0)
    if not isinstance(schema, dict):
        return 0
    own = pattern_widths(schema["pattern"])[1] if isinstance(schema.get("pattern"), str) else 0
    return max(own, *map(pattern_growth, schema.values()), 0)


def _width(parsed: Any) -> int:
    return int(parsed.getwidth()[0])


def _choices(parsed: Any) -> int:
    """The largest number of characters to which one choice commits: for an alternative, or one more repetition."""
    found = [0]
    for operation, argument in parsed:
        if str(operation) == "BRANCH":
            widths = [_width(option) for option in argument[1]]
            found += [max(widths) - min(widths), *map(_choices, argument[1])]
        elif "REPEAT" in str(operation):
            least, most, body = argument
            found.append(max(_choices(body), _width(body) if most > least else 0))
        elif str(operation) == "SUBPATTERN":
            found.append(_choices(argument[-1]))
    return max(found)
