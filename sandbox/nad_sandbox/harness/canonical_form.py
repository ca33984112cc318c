"""The canonical form of a value: JSON-serializable data that are the same for equal values.

Sets and dictionaries are written in sorted order, iterators as their first items, functions as what they do with a few
arguments, enumeration members as their name and value, and other objects as their type and attributes.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import io
import itertools
import json
import sys
import types

ITEMS = 1000
DEPTH = 60
VALUES = 1 << 20
FUNCTION_CALLS = 32
PRINTED = 1 << 20
FUNCTIONS = (
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    functools.partial,
    type(functools.lru_cache(str.upper)),
)


class Printed(io.StringIO):
    """Standard output that keeps a bounded number of characters."""

    def write(self, text):
        return super().write(text) if self.tell() < PRINTED else len(text)


def canonical(value, calls=0):
    """Return the canonical form of a value, whatever the order of its sets and mappings.

    Args:
        value: The value; its iterators are consumed.
        calls: Largest number of calls of the functions in it.
    """
    return CanonicalWriter(calls).form(value)


class CanonicalWriter:
    """Writes the canonical form of one value, with a bound on its depth, its size and the calls of its functions.

    Args:
        calls: Largest number of calls of functions.
    """

    def __init__(self, calls):
        self.calls = calls
        self.values = VALUES
        self.path = set()
        self.functions = 0

    def form(self, value, depth=0):
        """Return the form of a value; one that holds itself, or comes after the bounds are reached, has no content."""
        if value is None or isinstance(value, bool):
            return value
        enum = sys.modules.get("enum")
        if enum is not None and isinstance(value, enum.Enum):
            return ["object", type(value).__name__, self.form([value.name, value.value], depth + 1)]
        if isinstance(value, int):
            return ["int", format(int.__index__(value), "x")]
        if isinstance(value, float):
            return ["float", float.__repr__(value)]
        if isinstance(value, str):
            return ["str", str.__str__(value)]
        self.values -= 1
        if depth > DEPTH or id(value) in self.path or self.values < 0:
            return ["deep", type(value).__name__]
        self.path.add(id(value))
        try:
            return self.content(value, depth + 1)
        finally:
            self.path.discard(id(value))

    def content(self, value, depth):
        """Return the form of a value that is no atom."""
        if isinstance(value, (list, tuple, collections.deque)):
            return self.items(value, depth)
        if isinstance(value, (set, frozenset)):
            return ["set", sorted((self.form(item, depth) for item in value), key=json.dumps)]
        if isinstance(value, dict):
            pairs = [[self.form(key, depth), self.form(item, depth)] for key, item in dict.items(value)]
            return ["dict", sorted(pairs, key=json.dumps)]
        if isinstance(value, complex):
            return self.items([value.real, value.imag], depth)
        kind = type(value)
        if hasattr(value, "tolist") and kind.__module__ == "numpy":
            return self.form(value.tolist(), depth)
        if isinstance(value, (io.StringIO, io.BytesIO)):
            # a file is an iterator too, and reading it would change it
            return ["object", kind.__name__, "closed" if value.closed else self.form(value.getvalue(), depth)]
        if hasattr(kind, "__next__") or isinstance(value, (range, map, filter, zip)):
            return self.items(itertools.islice(value, ITEMS), depth)
        if hasattr(kind, "__anext__"):
            return self.items(awaited(first_items(value)), depth)
        own = kind.__module__ == "candidate"
        if isinstance(value, FUNCTIONS) or (own and callable(value)):
            return ["function", self.all_called(value, depth)]
        if not own:
            text = repr(value)
            return ["object", kind.__name__, "" if " at 0x" in text else text]
        return ["object", kind.__name__, self.form(attributes(value), depth)]

    def items(self, values, depth):
        """Return the form of a list of values."""
        return ["list", [self.form(item, depth) for item in values]]

    def all_called(self, function, depth):
        """Return what a function does with some arguments; with fewer if another function returned it."""
        if self.calls <= 0:
            return []
        rows = arguments_of_functions()
        self.functions += 1
        try:
            told = [self.called(function, given, depth) for given in rows[: max(1, len(rows) >> (self.functions - 1))]]
            if self.functions == 1:
                # a function may keep something between its calls
                again = [self.called(function, given, depth) for given in REPEATED]
                told += [call for call in again if call not in told]
            return told
        finally:
            self.functions -= 1

    def called(self, function, given, depth):
        """Return the arguments of a call, and what the function returned, raised, or printed if it returned nothing."""
        shown = [FUNCTION_ARGUMENT if callable(value) else value for value in given]
        told = ["list", [self.form(value, depth) for value in shown]]
        if self.calls <= 0:
            return [told, "omitted", None]
        self.calls -= 1
        out = Printed()
        try:
            with contextlib.redirect_stdout(out):
                result = awaited(function(*given))
                form = self.form(result, depth)
        except BaseException as error:
            return [told, "raised", ["str", type(error).__name__]]
        if result is None and out.getvalue():
            return [told, "printed", ["str", out.getvalue()]]
        return [told, "returned", form]


REPEATED = ((3,), ())
FUNCTION_ARGUMENT = "lambda *args: args"


def arguments_of_functions():
    """Return the rows of arguments on which a returned function is called; they do not depend on its signature.

    A decorated function may show the signature of the function in it, or its own.
    """
    return ((3,), (2, 5), ("ab",), ([3, 1, 2],), (), (4, 1, 2), (lambda *args: args,))


def attributes(value):
    """Return the attributes of an object by name, those in slots too."""
    names = [name for kind in type(value).__mro__ for name in slots(kind)]
    found = {name: getattr(value, name) for name in names if hasattr(value, name)}
    return dict(found, **getattr(value, "__dict__", {}))


def slots(kind):
    """Return the attribute names in a class's own ``__slots__``, without those of its bases."""
    names = vars(kind).get("__slots__", ())
    names = [names] if isinstance(names, str) else list(names)
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def awaited(result):
    """Return the result of a coroutine; any other value is returned as it is."""
    if not isinstance(result, types.CoroutineType):
        return result
    import asyncio

    return asyncio.run(result)


async def first_items(iterator):
    """Return the first items of an asynchronous iterator."""
    found = []
    async for item in iterator:
        found.append(item)
        if len(found) >= ITEMS:
            break
    return found
