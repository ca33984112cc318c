"""Narrow a JSON schema to what Python can parse and a grammar can express."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from nad_agents.constrained.subschemas import has_keyword, map_subschemas, resolve_reference

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

_ANNOTATIONS = {"title", "default", "example", "examples", "deprecated", "readOnly", "writeOnly", "$comment"}
"""Keywords that do not constrain values; llguidance accepts none of them next to a recursive reference."""

_LOOKAROUND = re.compile(r"\(\?<?[=!]")


def narrow_schema(schema: Any) -> Any:
    """Return a schema whose instances all fit the given one and can be parsed with Python's standard library.

    Formats of dates and times become patterns, unknown formats are dropped, narrow ranges of numbers lose their open
    ends, and objects that name properties allow no others unless they say so. ``oneOf`` becomes ``anyOf`` where no
    value can fit two of its alternatives, as with the tag of a discriminated union. Alternatives whose pattern has a
    lookaround, which no grammar can express, are left out if others remain; some versions of pydantic write such a
    pattern for a Decimal.
    """
    return _narrow(schema, schema, close=not has_keyword(schema, "allOf"))


def _narrow(schema: Any, root: Any, *, close: bool) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    narrowed = map_subschemas(schema, lambda part: _narrow(part, root, close=close))
    if close and _names_all_properties(narrowed):
        narrowed["additionalProperties"] = False
    narrowed.pop("discriminator", None)
    if isinstance(narrowed.get("$ref"), str):
        narrowed = {key: value for key, value in narrowed.items() if key not in _ANNOTATIONS}
    if isinstance(narrowed.get("oneOf"), list) and "anyOf" not in narrowed and _are_exclusive(narrowed["oneOf"], root):
        narrowed["anyOf"] = narrowed.pop("oneOf")
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


def _names_all_properties(schema: Mapping[str, Any]) -> bool:
    """Return whether an object's own keywords name properties, do not mention others, and require no others."""
    properties = schema.get("properties")
    if schema.get("type") != "object" or not isinstance(properties, Mapping) or not properties:
        return False
    elsewhere = {"additionalProperties", "patternProperties", "unevaluatedProperties", "minProperties"}
    elsewhere |= {"$ref", "anyOf", "oneOf", "if"}
    required = schema.get("required", [])
    return not elsewhere & schema.keys() and isinstance(required, list) and all(name in properties for name in required)


def _without_open_ends(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema whose range of numbers, if it is narrower than 1, has closed ends a little further inside.

    llguidance allows a whole number at an open end of such a range, such as 0 for 0 < x < 0.5.
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


def _are_exclusive(alternatives: list[Any], root: Any) -> bool:
    """Return whether all alternatives are objects with a required property whose constant differs in each."""
    objects = [_resolved(part, root) for part in alternatives]
    tags = [
        {name: _constants(part["properties"][name]) for name in part["required"] if name in part["properties"]}
        for part in objects
        if isinstance(part.get("properties"), Mapping) and isinstance(part.get("required"), list)
    ]
    if len(tags) < len(objects) or not all(part.get("type") == "object" for part in objects):
        return False

    def tells_apart(name: str) -> bool:
        constants = [constant for tag in tags for constant in tag.get(name, ())]
        return all(tag.get(name) for tag in tags) and len(set(constants)) == len(constants)

    return bool(tags) and any(tells_apart(name) for name in tags[0])


def _resolved(schema: Any, root: Any) -> Mapping[str, Any]:
    reference = schema.get("$ref") if isinstance(schema, Mapping) else None
    found = resolve_reference(reference, root) if isinstance(reference, str) else schema
    return found if isinstance(found, Mapping) else {}


def _constants(schema: Any) -> list[str]:
    """Return the strings that a schema lists; empty if it allows any other value."""
    if not isinstance(schema, Mapping):
        return []
    allowed = [schema["const"]] if "const" in schema else schema.get("enum")
    return allowed if isinstance(allowed, list) and all(isinstance(value, str) for value in allowed) else []


def _has_lookaround(schema: Any) -> bool:
    return isinstance(schema, Mapping) and _LOOKAROUND.search(str(schema.get("pattern", ""))) is not None
