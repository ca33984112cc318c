"""Arguments as JSON: the schema of a kind of value, and the value that JSON of that schema stands for."""

from __future__ import annotations

from typing import Any

from nad_sandbox.behaviour.parameter_types import Kind

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
}
_MOST_ITEMS = 12


def json_schema(kind: Kind) -> dict[str, Any]:
    """The JSON schema of a kind's values; a dict with other keys than texts is a list of pairs."""
    if kind.name in _ATOMS:
        return dict(_ATOMS[kind.name])
    parts = [json_schema(part) for part in kind.parts]
    if kind.name == "union":
        return {"anyOf": parts}
    if kind.name == "tuple":
        return {"type": "array", "prefixItems": parts, "minItems": len(parts), "maxItems": len(parts)}
    if kind.name == "dict":
        if kind.parts[0].name == "str":
            return {"type": "object", "additionalProperties": parts[1]}
        pair = {"type": "array", "prefixItems": parts, "minItems": 2, "maxItems": 2}
        return {"type": "array", "items": pair, "maxItems": _MOST_ITEMS}
    return {"type": "array", "items": parts[0], "maxItems": _MOST_ITEMS}


def json_value(kind: Kind, data: Any) -> object:
    """The value that parsed JSON stands for; data of another form than the schema's stays as it is."""
    match kind.name, data:
        case "float", int():
            return float(data)
        case "bytes", str():
            return data.encode()
        case "dict", dict():
            return {key: json_value(kind.parts[1], value) for key, value in data.items()}
        case "list" | "set" | "tuple" | "dict", list():
            return _collected(kind, data)
    return data


def _collected(kind: Kind, data: list[Any]) -> object:
    """What a JSON array stands for."""
    if kind.name == "tuple":
        fits = len(data) == len(kind.parts)
        return tuple(map(json_value, kind.parts, data)) if fits else data
    if kind.name == "dict":
        if not all(isinstance(pair, list) and len(pair) == 2 for pair in data):
            return data
        return {_hashable(json_value(kind.parts[0], key)): json_value(kind.parts[1], item) for key, item in data}
    values = [json_value(kind.parts[0], item) for item in data]
    return set(map(_hashable, values)) if kind.name == "set" else values


def _hashable(value: object) -> object:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
