"""Find the part of a JSON schema that a grammar cannot express, and the grammar engine's reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from nad_agents.constrained.subschemas import DEFINITIONS, iter_subschemas

__all__ = ["compile_error_reason", "failing_subschema"]

_POSITION = re.compile(r"^at \d+\(\d+\): ")
"""Line and column in a grammar that the user never saw."""


def compile_error_reason(message: str) -> str:
    """Return llguidance's reason on one line, without the grammar that its message quotes."""
    lines = [line.strip() for line in message.split("\n")]
    reason = _POSITION.sub("", lines[0].split("failed to compile JSON schema: ")[-1])
    # a rejected regular expression is explained on a line of its own, below the expression
    explained = next((line.removeprefix("error: ") for line in lines[1:] if line.startswith("error: ")), None)
    return reason if explained is None else f"{reason.removesuffix('regex parse error:').strip()} {explained}".strip()


def failing_subschema(
    schema: Mapping[str, Any], rejection_reason: Callable[[Mapping[str, Any]], str | None]
) -> tuple[str, str] | None:
    """Find the innermost part of a schema that the grammar engine rejects on its own.

    Args:
        schema: A schema that is rejected as a whole.
        rejection_reason: Asks the engine why it rejects a schema; None if it accepts the schema.

    Returns:
        The part's path, such as ``properties.price``, and the reason; an empty path if only the whole is rejected, and
        None if the schema is accepted after all.
    """
    definitions = {name: schema[name] for name in DEFINITIONS if name in schema}

    def search(part: Mapping[str, Any]) -> tuple[str, str] | None:
        # a part may refer to the definitions of the whole
        reason = rejection_reason({**part, **definitions})
        if reason is None:
            return None
        for path, inner in iter_subschemas(part):
            found = search({name: value for name, value in inner.items() if name not in DEFINITIONS})
            if found is not None:
                return ".".join(step for step in (path, found[0]) if step), found[1]
        return "", reason

    return search(schema)
