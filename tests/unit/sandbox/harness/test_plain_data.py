"""Values as plain data: what crosses, what does not, and what is no value at all."""

import json
import math
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from enum import IntEnum

import pytest
from nad_sandbox.harness.plain_data import MalformedError, NotPlainError, decode, encode


def crossed(value):
    return decode(json.loads(json.dumps(encode(value))))


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -1, 2**80, -(2**80), 1.0, -0.0, math.inf, 1j, "é\ud800", b"\0\xff", bytearray(b"x"), [], [1, 2.0, "3"],
     [True, False], [[1], [2]], (1,), {1, 2}, frozenset({3}), {}, {(1, 2): [3], "a": {"b": {4}}}, [None, [None]]],
)  # fmt: skip
def test_a_value_keeps_its_type(value):
    result = crossed(value)
    assert result == value
    assert type(result) is type(value)
    assert repr(result) == repr(value)


def test_no_number_is_lost():
    assert math.isnan(crossed([1.0, math.nan])[1])
    assert crossed([2**60, 2**61]) == [2**60, 2**61]
    assert crossed(10**5000) == 10**5000
    assert crossed(list(range(100_000))) == list(range(100_000))


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict(a=1), {"a": 1}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (namedtuple("P", "x y")(1, 2), (1, 2)),
        (IntEnum("E", "A").A, 1),
        (deque([1, 2], 3), [1, 2]),
        (range(3), [0, 1, 2]),
        (map(str, [1]), ["1"]),
        ({"a": 1}.keys(), ["a"]),
        ((x for x in "ab"), ["a", "b"]),
    ],
)
def test_relatives_of_plain_types_become_plain(value, plain):
    result = crossed(value)
    assert result == plain
    assert type(result) is type(plain)


class AlwaysEqual(int):
    def __eq__(self, other):
        return True

    __hash__ = int.__hash__


def endless():
    while True:
        yield 1


@pytest.mark.parametrize("value", [object(), len, int, AlwaysEqual(3), [AlwaysEqual(3)], {"a": object()}, endless()])
def test_other_objects_do_not_cross(value):
    with pytest.raises(NotPlainError):
        encode(value)


def test_a_list_that_holds_itself_does_not_cross():
    value = []
    value.append(value)
    with pytest.raises(NotPlainError, match="nested deeper"):
        encode(value)


@pytest.mark.parametrize(
    "data",
    [{}, {"int": "zz"}, {"int": 3}, {"float": "1.0"}, {"float": 1}, {"dict": [[1]]}, {"dict": 3}, {"tuple": 3}, {"set": [[1]]},
     {"bytes": "x"}, {"complex": ["1"]}, {"complex": [1, 2, 3]}, {"unknown": 1}, {"tuple": [], "set": []}, [{"int": None}],
     {"dict": [[{"dict": []}, 1]]}, {"frozenset": [{"set": []}]}],
)  # fmt: skip
def test_what_is_no_value_is_refused(data):
    with pytest.raises(MalformedError):
        decode(data)


def test_nesting_beyond_measure_is_refused():
    data = []
    for _ in range(5000):
        data = [[], data]
    with pytest.raises(MalformedError, match="nested too deep"):
        decode(data)
