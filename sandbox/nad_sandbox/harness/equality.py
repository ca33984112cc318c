"""Detect values that compare equal to everything.

A program that returns an object whose ``__eq__`` is always true would pass every ``assert f(x) == y``. So each object
whose comparison is written in Python is first compared with random values that no correct object equals. An object
that claims to equal one of them is rejected; for every other object Python's own comparison decides.
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
    """Raised when a value compares equal to everything."""


def random_values():
    """Return random values, none of which an honest object equals."""
    number = int.from_bytes(os.urandom(6), "big") + 1  # small enough that a float holds number + 0.5 exactly
    text = "nad" + os.urandom(8).hex()
    return (object(), number, number + 0.5, text, text.encode(), [number], (text, number), {text: number}, {number})


def always_equal(value, allowed=()):
    """Return whether a value, or an item of a container, is equal to whatever it is compared with.

    Args:
        value: Value that is about to be compared.
        allowed: Names of classes whose objects may equal everything, such as that of `unittest.mock.ANY`.
    """
    return any(
        matches_random_values(item) for item in objects_compared_in_python(value) if type(item).__name__ not in allowed
    )


def objects_compared_in_python(value, depth=0):
    """Yield the objects in a value whose comparison is not implemented in C."""
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
            yield from objects_compared_in_python(item, depth + 1)


def has_own_comparison(kind):
    """Return whether a class defines a comparison in Python that does not come from an installed library."""
    codes = [getattr(getattr(kind, name, None), "__code__", None) for name in COMPARISONS]
    return any(code is not None and not code.co_filename.startswith(library_folders()) for code in codes)


def matches_random_values(value):
    """Return whether an object claims to equal, contain or order random values that have nothing in common."""
    for other in random_values():
        # an object that compares modulo a number equals at most one of two consecutive numbers
        equal = answer(lambda: value == other) and (type(other) is not int or answer(lambda: value == other + 1))
        if equal or (answer(lambda: value < other) and answer(lambda: value > other)):
            return True
        if hasattr(type(value), "__contains__") and answer(lambda: other in value):
            return True
    return answer(lambda: value == True) and answer(lambda: value == False)  # noqa: E712 - the comparison itself is tested


def suits_too_much(value, expected):
    """Return whether an object that defines comparison in Python equals most values other than the expected one."""
    kind = type(value)
    if kind in ATOMS or type(expected) not in PLAIN or all(type(getattr(kind, n, None)) in SLOTS for n in COMPARISONS):
        return False
    others = values_beside(expected)
    return sum(answer(lambda: bool(value == other)) for other in others) * 2 > len(others)


def values_beside(value):
    """Return plain values of the same type that differ from a value."""
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
    """Return whether a comparison gives True; one that raises counts as False."""
    try:
        return question() is True
    except BaseException:
        return False


def library_folders(found=[]):  # noqa: B006 - looked up once
    """Return the prefixes of file names whose code belongs to Python, installed packages or the harness."""
    if not found:
        installed = [path for path in sys.path if "-packages" in path or path.startswith("/opt/nad-sandbox")]
        folders = [os.path.dirname(os.__file__), *installed]
        found.append(("<frozen", "harness.py", "tests.py", *[folder + os.sep for folder in folders if folder]))
    return found[0]
