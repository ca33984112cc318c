"""Values that are equal to everything.

A program that returns an object whose ``__eq__`` is always true would pass every ``assert f(x) == y``. Python's own
comparison decides in tests, as it does everywhere, but only for objects that can tell something else from what is
expected: each object with a comparison written in Python is first compared with values made up for the occasion.
"""

from __future__ import annotations

import os
import sys

ATOMS = frozenset([int, float, str, bool, bytes, complex, type(None), type, range, bytearray])
SEQUENCES = (list, tuple, set, frozenset)
PLAIN = frozenset([int, float, complex, str, bytes, list, tuple, set, frozenset, dict])
COMPARISONS = ("__eq__", "__contains__", "__lt__")
SLOTS = (type(object.__eq__), type(None))
DEEPEST_WALK = 20


class AlwaysEqualError(AssertionError):
    """A value compares equal to everything."""


def made_up_values():
    """Values that no honest object is equal to."""
    number = int.from_bytes(os.urandom(6), "big") + 1  # a half more is no whole number, as a float either
    text = "nad" + os.urandom(8).hex()
    return (object(), number, number + 0.5, text, text.encode(), [number], (text, number), {text: number}, {number})


def always_equal(value, allowed=()):
    """Whether a value, or an item of a container, is equal to whatever it is compared with.

    Args:
        value: what is about to be compared.
        allowed: names of classes that may be, such as that of `unittest.mock.ANY`.
    """
    return any(is_dishonest(item) for item in exotic_objects(value) if type(item).__name__ not in allowed)


def exotic_objects(value, depth=0):
    """The objects in a value that do not leave their comparison to C."""
    kind = type(value)
    if kind in ATOMS:
        return
    if any(type(getattr(kind, name, None)) not in SLOTS for name in COMPARISONS):
        yield value
    if issubclass(kind, dict):
        items = list(dict.keys(value)) + list(dict.values(value))
    elif issubclass(kind, SEQUENCES):
        base = next(base for base in SEQUENCES if issubclass(kind, base))
        items = list(base.__iter__(value))
    else:
        return
    if depth < DEEPEST_WALK and not frozenset(map(type, items)) <= ATOMS:
        for item in items:
            yield from exotic_objects(item, depth + 1)


def has_own_comparison(kind):
    """Whether a class has a comparison in Python that is not the standard library's."""
    codes = [getattr(getattr(kind, name, None), "__code__", None) for name in COMPARISONS]
    return any(code is not None and not code.co_filename.startswith(library_folders()) for code in codes)


def is_dishonest(value):
    """Whether an object says that it equals, holds or orders values which have nothing in common."""
    for other in made_up_values():
        # of two numbers in a row, one modulo another number equals one at most
        equal = answer(lambda: value == other) and (type(other) is not int or answer(lambda: value == other + 1))
        if equal or (answer(lambda: value < other) and answer(lambda: value > other)):
            return True
        if hasattr(type(value), "__contains__") and answer(lambda: other in value):
            return True
    return answer(lambda: value == True) and answer(lambda: value == False)  # noqa: E712 - what is asked


def suits_too_much(value, expected):
    """Whether an object with a comparison in Python equals not only a plain value, but most of those beside it."""
    kind = type(value)
    if kind in ATOMS or type(expected) not in PLAIN or all(type(getattr(kind, n, None)) in SLOTS for n in COMPARISONS):
        return False
    others = values_beside(expected)
    return sum(answer(lambda: bool(value == other)) for other in others) * 2 > len(others)


def values_beside(value):
    """Plain values that are like one, and differ."""
    kind = type(value)
    if kind in (int, float, complex):
        return (value + 1, value - 1, value + 7, 2 * value + 3)
    if kind in (str, bytes, list, tuple):
        more = {str: "x", bytes: b"x", list: [0], tuple: (0,)}[kind]
        return (value + more, more + value, value + value + more)
    if kind in (set, frozenset):
        return (value | {"x"}, value | {0.5}, value | {"y", 0.5})
    if kind is dict:
        return ({**value, "x": 0}, {**value, 0.5: 0}, {**value, "y": 0, "z": 0})
    return ()


def answer(question):
    """Whether a comparison says True; one that raises does not."""
    try:
        return question() is True
    except BaseException:
        return False


def library_folders(found=[]):  # noqa: B006 - looked up once
    """Where code lies that no program wrote."""
    if not found:
        installed = [path for path in sys.path if "-packages" in path or path.startswith("/opt/nad-sandbox")]
        folders = [os.path.dirname(os.__file__), *installed]
        found.append(("<frozen", "harness.py", "tests.py", *[folder + os.sep for folder in folders if folder]))
    return found[0]
