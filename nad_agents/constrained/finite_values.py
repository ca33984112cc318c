"""Find schemas that no finite JSON value fits, because each value would have to contain another one of its kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nad_agents.constrained.subschemas import resolve_reference

__all__ = ["endless_reference"]


def endless_reference(schema: Mapping[str, Any]) -> str | None:
    """Return the reference that keeps every value of a schema from being finite; None if finite values exist.

    Args:
        schema: A JSON schema; references are looked up in it.
    """
    references = list(dict.fromkeys(_references(schema)))
    finite: set[str] = set()
    # the least fixed point: a reference is finite once what it refers to needs none but finite ones
    changed = True
    while changed:
        found = {
            name for name in references if name not in finite and _is_finite(resolve_reference(name, schema), finite)
        }
        changed = bool(found)
        finite |= found
    if _is_finite(schema, finite):
        return None
    return next((name for name in references if name not in finite), "#")


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)


def _is_finite(schema: Any, finite: set[str]) -> bool:
    """Return whether a schema has a finite value, given the references that have one."""
    if not isinstance(schema, Mapping):
        return schema is not False
    if "const" in schema or "enum" in schema:
        return True
    referred = not isinstance(schema.get("$ref"), str) or schema["$ref"] in finite
    together = all(_is_finite(part, finite) for part in schema.get("allOf") or ())
    one_of_each = all(
        any(_is_finite(part, finite) for part in schema[key]) for key in ("anyOf", "oneOf") if schema.get(key)
    )
    if not (referred and together and one_of_each):
        return False
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if not kinds or any(kind not in {"object", "array"} for kind in kinds):
        return True
    return any(_is_finite_of_kind(schema, kind, finite) for kind in kinds)


def _is_finite_of_kind(schema: Mapping[str, Any], kind: str, finite: set[str]) -> bool:
    if kind == "object":
        properties = schema.get("properties") or {}
        return all(_is_finite(properties.get(name, {}), finite) for name in schema.get("required") or ())
    least = int(schema.get("minItems") or 0)
    first = list(schema.get("prefixItems") or ())[:least]
    others = least <= len(first) or _is_finite(schema.get("items", {}), finite)
    return others and all(_is_finite(part, finite) for part in first)
