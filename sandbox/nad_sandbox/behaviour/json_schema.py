"""Convert between types of values and JSON: the schema of a type, and the value that JSON of that schema stands for."""

from __future__ import annotations

import ast
from typing import Any

from nad_sandbox.behaviour.file_driver import FILES
from nad_sandbox.behaviour.parameter_types import ValueType
from nad_sandbox.behaviour.value_generation import Source
from nad_sandbox.checks.guarded_parse import PARSE_ERRORS

__all__ = ["json_schema", "json_value"]

_ATOMS: dict[str, dict[str, Any]] = {
    "int": {"type": "integer"},
    "count": {"type": "integer", "minimum": 0},
    "float": {"type": "number"},
    "str": {"type": "string"},
    "bool": {"type": "boolean"},
    "bytes": {"type": "string"},
    "complex": {"type": "number"},
    "none": {"type": "null"},
    "path": {"enum": list(FILES)},
}
_MOST_ITEMS = 12


def json_schema(value_type: ValueType) -> dict[str, Any]:
    """Return the JSON schema of a type's values; a dict whose keys are not strings becomes a list of pairs.

    A choice becomes the list of its options. JSON has no functions.
    """
    if value_type.name in _ATOMS:
        return dict(_ATOMS[value_type.name])
    if value_type.name == "choice":
        return {"enum": list(dict.fromkeys(map(_option, value_type.options)))}
    parts = [json_schema(part) for part in value_type.parts]
    if value_type.name == "union":
        return {"anyOf": parts}
    return _container_schema(value_type, parts)


def _container_schema(value_type: ValueType, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the JSON schema of a container from those of its parts."""
    if value_type.name == "tuple":
        return {"type": "array", "prefixItems": parts, "minItems": len(parts), "maxItems": len(parts)}
    if value_type.name == "dict":
        if value_type.parts[0].name == "str":
            return {"type": "object", "additionalProperties": parts[1]}
        pair = {"type": "array", "prefixItems": parts, "minItems": 2, "maxItems": 2}
        return {"type": "array", "items": pair, "maxItems": _MOST_ITEMS}
    return {"type": "array", "items": parts[0], "maxItems": _MOST_ITEMS}


def json_value(value_type: ValueType, data: Any) -> object:
    """Return the value that parsed JSON stands for; data that does not match the schema is returned unchanged.

    Args:
        value_type: The type that the schema was made from.
        data: The parsed JSON.
    """
    match value_type.name, data:
        case "choice", _:
            return next((Source(text) for text in value_type.options if _option(text) == data), data)
        case "float", int():
            return float(data)
        case "bytes", str():
            return data.encode()
        case "dict", dict():
            return {key: json_value(value_type.parts[1], value) for key, value in data.items()}
        case "list" | "set" | "frozenset" | "tuple" | "dict", list():
            return _collected(value_type, data)
    return data


def _collected(value_type: ValueType, data: list[Any]) -> object:
    """Return the value that a JSON array stands for."""
    if value_type.name == "tuple":
        fits = len(data) == len(value_type.parts)
        return tuple(map(json_value, value_type.parts, data)) if fits else data
    if value_type.name == "dict":
        if not all(isinstance(pair, list) and len(pair) == 2 for pair in data):
            return data
        keys, items = value_type.parts
        return {_hashable(json_value(keys, key)): json_value(items, item) for key, item in data}
    values = [json_value(value_type.parts[0], item) for item in data]
    return values if value_type.name == "list" else set(map(_hashable, values))


def _option(text: str) -> object:
    """Return an option as JSON: text or a number as it is, and anything else as its source."""
    try:
        value = ast.literal_eval(text)
    except PARSE_ERRORS:
        return text
    return value if isinstance(value, str | int | float | None) else text


def _hashable(value: object) -> object:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
