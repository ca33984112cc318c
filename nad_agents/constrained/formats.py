"""What a schema leaves open, narrowed to what Python can read and a grammar can express."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nad_agents.constrained.inexpressible import BY_NAME, LISTS, SINGLE

__all__ = ["narrowed"]

_YEAR = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
_LONG, _SHORT = "(?:0[13578]|1[02])", "(?:0[469]|11)"
_DAY = f"(?:{_LONG}-(?:0[1-9]|[12][0-9]|3[01])|{_SHORT}-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
_OF_FOUR = "(?:0[48]|[2468][048]|[13579][26])"
_DATE = f"(?:{_YEAR}-{_DAY}|(?:[0-9]{{2}}{_OF_FOUR}|{_OF_FOUR}00)-02-29)"
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:[.][0-9]{1,6})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_N = "[0-9]{1,6}"
_SECONDS = f"{_N}(?:[.]{_N})?S"
_CLOCK = f"T(?:{_N}H(?:{_N}M)?(?:{_SECONDS})?|{_N}M(?:{_SECONDS})?|{_SECONDS})"
_DAYS = f"(?:{_N}Y(?:{_N}M)?(?:{_N}D)?|{_N}M(?:{_N}D)?|{_N}D)"

_FORMATS = {
    "date": f"^{_DATE}$",
    "date-time": f"^{_DATE}T{_TIME}$",
    "time": f"^{_TIME}$",
    "duration": f"^P(?:{_N}W|{_CLOCK}|{_DAYS}(?:{_CLOCK})?)$",
}
"""Years 0001 to 9999, days that the month has, no leap seconds, durations below timedelta's limit (RFC 3339 allows more
than the standard library reads)."""

_LOOKS_AROUND = re.compile(r"\(\?<?[=!]")


def narrowed(schema: Any) -> Any:
    """A schema whose instances all fit the given one, and can be read where instances of that might not be.

    Formats of dates and times become patterns. Of several alternatives those are left out whose pattern looks around,
    which no grammar can (as in what some versions of pydantic write for a Decimal).
    """
    if not isinstance(schema, Mapping):
        return schema
    found = dict(schema)
    pattern = _FORMATS.get(str(found.get("format")))
    if pattern is not None and "pattern" not in found:
        del found["format"]
        found["pattern"] = pattern
    for key in BY_NAME:
        if isinstance(found.get(key), Mapping):
            found[key] = {name: narrowed(part) for name, part in found[key].items()}
    for key in LISTS:
        if isinstance(found.get(key), list):
            found[key] = [narrowed(part) for part in found[key]]
    for key in SINGLE:
        if key in found:
            found[key] = narrowed(found[key])
    if isinstance(found.get("anyOf"), list):
        found["anyOf"] = [part for part in found["anyOf"] if not _looks_around(part)] or found["anyOf"]
    return found


def _looks_around(part: Any) -> bool:
    return isinstance(part, Mapping) and _LOOKS_AROUND.search(str(part.get("pattern", ""))) is not None
