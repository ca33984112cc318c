"""Limits on JSON schemas in requests, which are refused before they cost time or memory."""

from __future__ import annotations

from typing import Any

from nad_server.errors import APIError

__all__ = ["check_schema"]

_MAX_DEPTH, _MAX_NODES, _MAX_COUNT = 32, 5_000, 4_096
_MAX_CHARACTERS = 20_000
_REFERENCE_DEPTH = 8
"""How often references are followed before a recursive schema counts as ended."""
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_NAMED = ("properties", "$defs", "definitions", "patternProperties")
_KEYWORDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(_NAMED, dict),
    "required": list,
    "enum": list,
    "anyOf": list,
    "oneOf": list,
    "allOf": list,
    "type": (str, list),
    "$ref": str,
    "pattern": str,
    "format": str,
    "title": str,
}


def check_schema(schema: Any, param: str) -> None:
    """Refuse a schema that is too large, asks for very long values, or is malformed where grammars read it.

    Args:
        schema: The schema as the client sent it.
        param: The field of the request that holds the schema.

    Raises:
        APIError: The schema is refused; the error says why.
    """
    waiting: list[tuple[Any, int]] = [(schema, 0)]
    nodes = 0
    while waiting:
        node, depth = waiting.pop()
        nodes += 1
        if nodes > _MAX_NODES or depth > _MAX_DEPTH:
            raise _refused(param, f"it is larger than {_MAX_NODES} parts or deeper than {_MAX_DEPTH}")
        if isinstance(node, bool):
            continue
        if not isinstance(node, dict):
            raise _refused(param, f"a part is {type(node).__name__}, where a schema is an object")
        _check_keywords(node, param)
        for name in _NAMED:
            waiting += [(part, depth + 1) for part in node.get(name, {}).values()]
        for name in ("anyOf", "oneOf", "allOf"):
            waiting += [(part, depth + 1) for part in node.get(name, [])]
        for name in ("items", "additionalProperties", "not"):
            part = node.get(name)
            waiting += [(item, depth + 1) for item in (part if isinstance(part, list) else [part]) if item is not None]
    _ShortestValue(schema, param).length(schema, 0)


class _ShortestValue:
    """Estimates the length of the shortest value of a schema without writing that value.

    Args:
        root: The whole schema, in which references are looked up.
        param: The field of the request that holds the schema.
    """

    def __init__(self, root: Any, param: str) -> None:
        self._root = root
        self._param = param
        self._visited = 0

    def length(self, node: Any, depth: int) -> int:
        """Return about how many characters the shortest value of a node has; refuse what goes beyond the limits."""
        self._visited += 1
        if self._visited > _MAX_NODES:
            raise _refused(self._param, "its references refer to one another without end")
        if not isinstance(node, dict) or depth > _REFERENCE_DEPTH:
            return 2
        length = int(node.get("minLength", 0)) + 2
        if "$ref" in node:
            length += self.length(self._resolve(node["$ref"]), depth + 1)
        properties = node.get("properties", {})
        for name in node.get("required", ()):
            length += len(name) + self.length(properties.get(name, {}), depth + 1)
        if node.get("minItems") and isinstance(node.get("items"), dict):
            length += node["minItems"] * self.length(node["items"], depth + 1)
        for name in ("anyOf", "oneOf", "allOf"):
            length += sum(self.length(option, depth + 1) for option in node.get(name, ()))
        if length > _MAX_CHARACTERS:
            raise _refused(self._param, f"no value is shorter than {_MAX_CHARACTERS} characters")
        return length

    def _resolve(self, reference: str) -> Any:
        target = self._root
        for part in reference.removeprefix("#/").split("/"):
            target = target.get(part, {}) if isinstance(target, dict) else {}
        return target


def _check_keywords(node: dict[str, Any], param: str) -> None:
    for name, kind in _KEYWORDS.items():
        if name in node and not isinstance(node[name], kind):
            raise _refused(param, f"{name} is {type(node[name]).__name__}")
    if isinstance(node.get("type"), list) and not (node["type"] and all(isinstance(k, str) for k in node["type"])):
        raise _refused(param, "type is a list of other things than names")
    if not all(isinstance(name, str) for name in node.get("required", ())):
        raise _refused(param, "required lists other things than names")
    for name in _COUNTS:
        count = node.get(name)
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or not count >= 0):
            raise _refused(param, f"{name} is no count")
        if name.startswith("min") and count is not None and count > _MAX_COUNT:
            raise _refused(param, f"{name}={count} is more than {_MAX_COUNT}")
    if "enum" in node and not node["enum"]:
        raise _refused(param, "enum is empty, so no value fits")


def _refused(param: str, reason: str) -> APIError:
    return APIError(
        400, f"{param} is no JSON schema that this server takes: {reason}", code="invalid_schema", param=param
    )
