"""Objects that are equal to everything are told from those that are equal to something."""

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from unittest import mock

import pytest
from nad_sandbox.harness.equality import always_equal, suits_too_much


class Everything:
    def __eq__(self, other):
        return True

    def __hash__(self):
        return 0


class Numbers(Everything):
    def __eq__(self, other):
        return isinstance(other, int)

    __hash__ = Everything.__hash__


class Bools(Everything):
    def __eq__(self, other):
        return isinstance(other, bool)

    __hash__ = Everything.__hash__


class Holds:
    def __contains__(self, item):
        return True


class Ordered:
    def __lt__(self, other):
        return True

    __gt__ = __lt__


class Money:
    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return self.value == (other.value if isinstance(other, Money) else other)

    def __hash__(self):
        return hash(self.value)


class Infinity:
    def __gt__(self, other):
        return True

    def __lt__(self, other):
        return False


class Broken:
    def __eq__(self, other):
        raise SystemExit

    __hash__ = None


@dataclass
class Point:
    x: int


@pytest.mark.parametrize("kind", [Everything, Numbers, Bools, Holds, Ordered])
def test_what_says_yes_to_everything_is_seen(kind):
    value = kind()
    for place in (value, [value], (1, (value,)), {"k": [value]}, {1: value}):
        assert always_equal(place)


def test_mocks_are_no_exception():
    equal = mock.MagicMock()
    equal.__eq__.return_value = True
    assert always_equal(equal)
    assert always_equal([mock.ANY])
    assert not always_equal([mock.ANY], ("_ANY",))
    assert not always_equal(mock.MagicMock())


@pytest.mark.parametrize(
    "value",
    [1, "a", [1, (2, {"a": {3}})], Money(3), Infinity(), Point(1), [Point(1), Money(2)], Decimal(3), Counter("ab"), Broken(),
     pytest.approx(3), object(), range(3)],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_is_equal_to_something_is_honest(value):
    assert not always_equal(value)


class Modular:
    def __init__(self, modulus):
        self.modulus = modulus

    def __eq__(self, other):
        return other % self.modulus == 1

    __hash__ = None


class Range(Modular):
    __hash__ = None

    def __eq__(self, other):
        return other in range(self.modulus)


@pytest.mark.parametrize("modulus", [2, 3, 7])
def test_numbers_modulo_another_are_honest(modulus):
    assert not any(always_equal(Modular(modulus)) for _ in range(60))
    assert not suits_too_much(Modular(modulus), 1)


def test_what_equals_an_expected_value_and_those_beside_it_suits_too_much():
    assert not any(always_equal(Range(modulus)) for modulus in (0, 1))
    assert suits_too_much(Range(1000), 3)
    assert not suits_too_much(Range(2), 1)
    assert not suits_too_much(3, 3)
