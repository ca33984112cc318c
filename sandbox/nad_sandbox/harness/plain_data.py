"""Encode plain data as JSON, to cross the pipe between the second judge and the program's process.

Plain data are None, bool, numbers, strings, bytes, and lists, tuples, sets and dictionaries of these. An instance of
a subclass is sent as the plain value, unless it has a comparison of its own; an iterator is sent as the list of its
items.
"""

from __future__ import annotations

import itertools
import math

from nad_sandbox.harness.equality import has_own_comparison

LARGEST_INT = 1 << 60
LONGEST_ITERATOR = 100000
DEEPEST = 200
EXACT = frozenset([int, float, complex, bytes, bytearray, list, tuple, set, frozenset, dict])
CONTAINERS = {"tuple": tuple, "set": set, "frozenset": frozenset}
FINITE_LISTS = (frozenset([str]), frozenset([bool]), frozenset([type(None)]))
NOTHING = dict.fromkeys([0])
VIEWS = (range, type(NOTHING.keys()), type(NOTHING.values()), type(NOTHING.items()))


class NotPlainError(Exception):
    """Raised when a value is not plain data; the message names its type."""


class MalformedError(Exception):
    """Raised when a message is not in the form that `encode` writes."""


def encode(value, depth=0):
    """Return the JSON form of a value.

    Raises:
        NotPlainError: The value holds something that is not plain data.
    """
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind not in EXACT and has_own_comparison(kind):
        raise NotPlainError("%s, which compares itself in a way of its own" % kind.__name__)
    if issubclass(kind, int):
        number = int.__index__(value)
        return number if -LARGEST_INT < number < LARGEST_INT else {"int": format(number, "x")}
    if issubclass(kind, float):
        text = float.__repr__(value)
        return {"float": text} if text in ("nan", "inf", "-inf") else float(text)
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, complex):
        return {"complex": [float.__repr__(value.real), float.__repr__(value.imag)]}
    if issubclass(kind, (bytes, bytearray)):
        return {"bytes" if issubclass(kind, bytes) else "bytearray": bytes(value).hex()}
    if depth > DEEPEST:
        raise NotPlainError("a value nested deeper than %d levels" % DEEPEST)
    if issubclass(kind, list):
        return encode_items(list.__getitem__(value, slice(None)), depth)
    for name, container in CONTAINERS.items():
        if issubclass(kind, container):
            return {name: encode_items(list(container.__iter__(value)), depth)}
    if issubclass(kind, dict):
        return {"dict": [[encode(k, depth + 1), encode(v, depth + 1)] for k, v in dict.items(value)]}
    if issubclass(kind, VIEWS) or hasattr(kind, "__next__") or kind.__name__ == "deque":
        items = list(itertools.islice(value, LONGEST_ITERATOR + 1))
        if len(items) <= LONGEST_ITERATOR:
            return encode_items(items, depth)
        raise NotPlainError("an iterator of more than %d items" % LONGEST_ITERATOR)
    raise NotPlainError(str(kind.__name__)[:100])


def encode_items(items, depth):
    """Return the JSON form of a list's items; a list of numbers is returned as it is, whatever its length."""
    kinds = frozenset(map(type, items))
    if kinds in FINITE_LISTS:
        return items
    if kinds == frozenset([int]) and -LARGEST_INT < min(items) and max(items) < LARGEST_INT:
        return items
    if kinds == frozenset([float]) and all(map(math.isfinite, items)):
        return items
    return [encode(item, depth + 1) for item in items]


def decode(data, depth=0):
    """Return the value whose JSON form was read.

    Raises:
        MalformedError: The data are not in the form that `encode` writes.
    """
    kind = type(data)
    if data is None or kind in (bool, int, float, str):
        return data
    if depth > 2 * DEEPEST:
        raise MalformedError("nested too deep")
    if kind is list:
        if frozenset(map(type, data)) <= {int, float, str, bool, type(None)}:
            return data
        return [decode(item, depth + 1) for item in data]
    if kind is not dict or len(data) != 1:
        raise MalformedError("an object that is no value")
    ((name, content),) = data.items()
    try:
        if name in CONTAINERS and type(content) is list:
            return CONTAINERS[name](decode(item, depth + 1) for item in content)
        if name == "dict" and type(content) is list:
            return {decode(key, depth + 1): decode(value, depth + 1) for key, value in content}
        if name == "int" and type(content) is str:
            return int(content, 16)
        if name == "float" and content in ("nan", "inf", "-inf"):
            return float(content)
        if name == "complex" and type(content) is list:
            real, imaginary = map(float, content)
            return complex(real, imaginary)
        if name in ("bytes", "bytearray") and type(content) is str:
            return bytes.fromhex(content) if name == "bytes" else bytearray.fromhex(content)
    except (TypeError, ValueError) as error:
        raise MalformedError(str(error)) from None
    raise MalformedError("an unknown kind of value")
