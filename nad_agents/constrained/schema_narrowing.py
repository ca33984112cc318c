"""Narrow a JSON schema to what Python can parse and a grammar can express."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from nad_agents.constrained.subschemas import map_subschemas

__all__ = ["narrow_schema"]

_YEAR = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
_DAY_OF_LONG_MONTH = "(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
_DAY_OF_SHORT_MONTH = "(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
_DAY_OF_FEBRUARY = "02-(?:0[1-9]|1[0-9]|2[0-8])"
_DAY = f"(?:{_DAY_OF_LONG_MONTH}|{_DAY_OF_SHORT_MONTH}|{_DAY_OF_FEBRUARY})"
_MULTIPLE_OF_4 = "(?:0[48]|[2468][048]|[13579][26])"
_LEAP_DAY = f"(?:[0-9]{{2}}{_MULTIPLE_OF_4}|{_MULTIPLE_OF_4}00)-02-29"
_DATE = f"(?:{_YEAR}-{_DAY}|{_LEAP_DAY})"
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:[.][0-9]{1,6})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_N = "[0-9]{1,6}"
_SECONDS = f"{_N}(?:[.]{_N})?S"
_TIME_PERIOD = f"T(?:{_N}H(?:{_N}M)?(?:{_SECONDS})?|{_N}M(?:{_SECONDS})?|{_SECONDS})"
_DATE_PERIOD = f"(?:{_N}Y(?:{_N}M)?(?:{_N}D)?|{_N}M(?:{_N}D)?|{_N}D)"

_FORMAT_PATTERNS = {
    "date": f"^{_DATE}$",
    "date-time": f"^{_DATE}T{_TIME}$",
    "time": f"^{_TIME}$",
    "duration": f"^P(?:{_N}W|{_TIME_PERIOD}|{_DATE_PERIOD}(?:{_TIME_PERIOD})?)$",
}
"""Patterns for the formats of RFC 3339, as far as Python's standard library can parse them.

Years are 0001 to 9999, months have their real number of days, seconds exclude leap seconds, and durations stay below
timedelta's limit.
"""

_KNOWN_FORMATS = {"email", "hostname", "ipv4", "ipv6", "uuid", "uri", *_FORMAT_PATTERNS}
"""Formats that a grammar can hold an answer to; JSON Schema takes every other one as an annotation."""

_LOOKAROUND = re.compile(r"\(\?<?[=!]")


def narrow_schema(schema: Any) -> Any:
    """Return a schema whose instances all fit the given one and can be parsed with Python's standard library.

    Formats of dates and times become patterns, unknown formats are dropped, and narrow ranges of numbers lose their
    open ends. Alternatives whose pattern has a lookaround, which no grammar can express, are left out if others
    remain; some versions of pydantic write such a pattern for a Decimal.
    """
    if not isinstance(schema, Mapping):
        return schema
    narrowed = map_subschemas(schema, narrow_schema)
    pattern = _FORMAT_PATTERNS.get(str(narrowed.get("format")))
    if pattern is not None and "pattern" not in narrowed:
        del narrowed["format"]
        narrowed["pattern"] = pattern
    if isinstance(narrowed.get("format"), str) and narrowed["format"] not in _KNOWN_FORMATS:
        del narrowed["format"]
    narrowed = _without_open_ends(narrowed)
    if isinstance(narrowed.get("anyOf"), list):
        narrowed["anyOf"] = [part for part in narrowed["anyOf"] if not _has_lookaround(part)] or narrowed["anyOf"]
    return narrowed


def _without_open_ends(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema whose range of numbers, if it is narrower than 1, has closed ends a little further inside.

    llguidance allows a whole number at an open end of such a range: 0 where 0 < x < 0.5 is asked for.
    """
    bounds = {key: schema.get(key) for key in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")}
    numbers = {key: value for key, value in bounds.items() if isinstance(value, int | float)}
    low = max((numbers[key] for key in ("minimum", "exclusiveMinimum") if key in numbers), default=-math.inf)
    high = min((numbers[key] for key in ("maximum", "exclusiveMaximum") if key in numbers), default=math.inf)
    open_ends = numbers.keys() & {"exclusiveMinimum", "exclusiveMaximum"}
    if schema.get("type") == "integer" or not open_ends or not 0 < high - low < 1:
        return schema
    inside = (high - low) / 1000
    narrowed = {key: value for key, value in schema.items() if key not in open_ends}
    if numbers.get("exclusiveMinimum") == low:
        narrowed["minimum"] = low + inside
    if numbers.get("exclusiveMaximum") == high:
        narrowed["maximum"] = high - inside
    return narrowed


def _has_lookaround(schema: Any) -> bool:
    return isinstance(schema, Mapping) and _LOOKAROUND.search(str(schema.get("pattern", ""))) is not None
