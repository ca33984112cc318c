"""Find and replace the schemas inside a JSON schema."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = [
    "DEFINITIONS",
    "has_keyword",
    "inline_root",
    "is_recursive",
    "iter_subschemas",
    "map_subschemas",
    "resolve_reference",
]

DEFINITIONS = ("$defs", "definitions")
"""Keywords whose value maps names to schemas that other schemas refer to."""

_BY_NAME = (*DEFINITIONS, "properties", "patternProperties")
_IN_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties")


def iter_subschemas(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the schemas directly within a schema, each with its path, such as ``properties.price``."""
    for key in _BY_NAME:
        found = schema.get(key)
        if isinstance(found, Mapping):
            yield from ((f"{key}.{name}", part) for name, part in found.items() if isinstance(part, Mapping))
    for key in _IN_LISTS:
        found = schema.get(key)
        if isinstance(found, list):
            yield from ((f"{key}.{i}", part) for i, part in enumerate(found) if isinstance(part, Mapping))
    yield from ((key, schema[key]) for key in _SINGLE if isinstance(schema.get(key), Mapping))


def map_subschemas(schema: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Return a copy of a schema in which `change` has replaced every schema directly within it.

    Args:
        schema: A JSON schema.
        change: Returns what takes a subschema's place.
    """
    changed = dict(schema)
    for key in _BY_NAME:
        if isinstance(changed.get(key), Mapping):
            changed[key] = {name: change(part) for name, part in changed[key].items()}
    for key in _IN_LISTS:
        if isinstance(changed.get(key), list):
            changed[key] = [change(part) for part in changed[key]]
    for key in _SINGLE:
        if key in changed:
            changed[key] = change(changed[key])
    return changed


def resolve_reference(reference: str, root: Any) -> Any:
    """Return the part of a schema that a reference such as ``#/$defs/Item`` names; an empty schema if it has none.

    Args:
        reference: Value of a ``$ref``.
        root: The whole schema, which the reference points into.
    """
    target = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if part:
            name = part.replace("~1", "/").replace("~0", "~")
            target = target.get(name, {}) if isinstance(target, Mapping) else {}
    return target


def has_keyword(schema: Any, keyword: str) -> bool:
    """Return whether a keyword occurs anywhere in nested schemas; True is no proof, as a property may have its name.

    Args:
        schema: A JSON schema, or a list of schemas.
        keyword: Name of the keyword, such as ``minProperties``.
    """
    if isinstance(schema, Mapping):
        return keyword in schema or any(has_keyword(part, keyword) for part in schema.values())
    return isinstance(schema, list) and any(has_keyword(part, keyword) for part in schema)


def inline_root(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema whose root is no reference, as pydantic writes it for recursive classes."""
    root = dict(schema)
    seen = set()
    while isinstance(reference := root.get("$ref"), str) and reference not in seen:
        seen.add(reference)
        target = resolve_reference(reference, schema)
        root = {**(target if isinstance(target, Mapping) else {}), **{k: v for k, v in root.items() if k != "$ref"}}
    return root


def is_recursive(schema: Mapping[str, Any]) -> bool:
    """Return whether a schema refers to itself, directly or through others."""
    finite: set[str] = set()

    def reaches_itself(part: Any, path: frozenset[str]) -> bool:
        if isinstance(part, list):
            return any(reaches_itself(inner, path) for inner in part)
        if not isinstance(part, Mapping):
            return False
        reference = part.get("$ref")
        if isinstance(reference, str):
            if reference in path:
                return True
            if reference not in finite and reaches_itself(resolve_reference(reference, schema), path | {reference}):
                return True
            finite.add(reference)
        return any(reaches_itself(inner, path) for name, inner in part.items() if name not in DEFINITIONS)

    return reaches_itself(schema, frozenset({"#"}))
