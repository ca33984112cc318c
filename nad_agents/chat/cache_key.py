"""Values and objects as JSON, for the keys of answer caches and the descriptions in traces."""

from __future__ import annotations

import uuid
import weakref
from collections.abc import Mapping
from typing import Any

__all__ = ["json_value", "object_name"]


def json_value(value: Any) -> Any:
    """Return a value as JSON can hold it; an object that JSON has no form for is replaced by its name."""
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [json_value(item) for item in value]
    return value if value is None or isinstance(value, str | int | float | bool) else object_name(value)


_OBJECT_NAMES: weakref.WeakKeyDictionary[object, str] = weakref.WeakKeyDictionary()


def object_name(thing: object) -> str | None:
    """Return a name that tells an object from every other: its type and repr, or its type and a random number.

    The same object keeps its name. Objects whose repr holds no address have one name when their reprs are equal.
    """
    if thing is None:
        return None
    kind = f"{type(thing).__module__}.{type(thing).__qualname__}"
    if " at 0x" not in repr(thing):
        return f"{kind} {thing!r}"
    # an address would be given to another object later, or by another process that shares the cache
    try:
        return _OBJECT_NAMES.setdefault(thing, f"{kind} {uuid.uuid4()}")
    except TypeError:
        return f"{kind} {uuid.uuid4()}"
