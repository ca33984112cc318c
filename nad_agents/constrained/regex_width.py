"""Compute how many characters a regular expression needs."""

from __future__ import annotations

import contextlib
import re
from typing import Any

__all__ = ["pattern_growth", "pattern_widths"]

_LONGEST_STRING = 1000
"""Upper bound on the widths, since larger ones are not meant literally."""


def pattern_widths(pattern: str) -> tuple[int, int]:
    """Return the minimum number of characters of a regular expression, and how many more one choice in it may require.

    Both are 0 for an expression that Python's dialect does not accept, because other dialects may.
    """
    with contextlib.suppress(re.error, AttributeError, OverflowError):
        # the standard library computes widths, but only under a private name: sre_parse, the public one, is deprecated
        parsed = re._parser.parse(pattern)  # type: ignore[attr-defined]
        return min(_width(parsed), _LONGEST_STRING), min(_choices(parsed), _LONGEST_STRING)
    return 0, 0


def pattern_growth(schema: Any) -> int:
    """Return how many characters one choice in any of the patterns in a schema may require."""
    if isinstance(schema, list):
        return max(map(pattern_growth, schema), default=0)
    if not isinstance(schema, dict):
        return 0
    own = pattern_widths(schema["pattern"])[1] if isinstance(schema.get("pattern"), str) else 0
    return max(own, *map(pattern_growth, schema.values()), 0)


def _width(parsed: Any) -> int:
    return int(parsed.getwidth()[0])


def _choices(parsed: Any) -> int:
    """Return the largest number of characters that one choice commits to, an alternative or one more repetition."""
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
