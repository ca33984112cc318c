"""Which part of a schema a grammar cannot express: the engine's reason, and where in the schema it applies."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["BY_NAME", "LISTS", "SINGLE", "engine_reason", "failing_part"]

Refuses = Callable[[Mapping[str, Any]], str | None]
"""Gives the reason why a schema alone is refused, or None."""

_SHARED = ("$defs", "definitions")
BY_NAME = (*_SHARED, "properties", "patternProperties")
LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
SINGLE = ("items", "additionalProperties")
"""Where a schema has further ones: by a name, in a list, or alone."""
_POSITION = re.compile(r"^at \d+\(\d+\): ")
"""Line and column in a grammar that its writer never saw."""


def engine_reason(message: str) -> str:
    """What llguidance says, on one line and without the grammar that it quotes."""
    lines = [line.strip() for line in message.split("\n")]
    reason = _POSITION.sub("", lines[0].split("failed to compile JSON schema: ")[-1])
    # a refused regular expression is explained on a line of its own, below the expression
    explained = next((line.removeprefix("error: ") for line in lines[1:] if line.startswith("error: ")), None)
    return reason if explained is None else f"{reason.removesuffix('regex parse error:').strip()} {explained}".strip()


def failing_part(schema: Mapping[str, Any], refuses: Refuses) -> tuple[str, str] | None:
    """The innermost part that is refused on its own, as a path such as ``properties.price``, and the reason.

    Args:
        schema: that is refused as a whole.
        refuses: asks the engine.

    Returns:
        None where the schema is not refused after all; an empty path where only the whole is.
    """
    shared = {name: schema[name] for name in _SHARED if name in schema}

    def search(part: Mapping[str, Any]) -> tuple[str, str] | None:
        # definitions stay within reach of the part that refers to them
        reason = refuses({**part, **shared})
        if reason is None:
            return None
        for path, inner in _parts(part):
            found = search({name: value for name, value in inner.items() if name not in _SHARED})
            if found is not None:
                return ".".join(step for step in (path, found[0]) if step), found[1]
        return "", reason

    return search(schema)


def _parts(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key in BY_NAME:
        found = schema.get(key)
        if isinstance(found, Mapping):
            yield from ((f"{key}.{name}", part) for name, part in found.items() if isinstance(part, Mapping))
    for key in LISTS:
        found = schema.get(key)
        if isinstance(found, list):
            yield from ((f"{key}.{i}", part) for i, part in enumerate(found) if isinstance(part, Mapping))
    yield from ((key, schema[key]) for key in SINGLE if isinstance(schema.get(key), Mapping))
