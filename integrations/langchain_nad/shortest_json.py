"""How short JSON of a schema can be, which tells how many tokens an answer needs at least."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["shortest_instance"]

_DEPTH = 8
"""Where a recursive schema is taken to end."""


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
        return json.dumps("a" * int(schema.get("minLength", 12 if "pattern" in schema or "format" in schema else 0)))
    return {"boolean": "true", "null": "null"}.get(kind, "0")


def _resolve(reference: str, root: Any) -> Any:
    target = root
    for part in reference.removeprefix("#/").split("/"):
        target = target.get(part, {}) if isinstance(target, dict) else {}
    return target
