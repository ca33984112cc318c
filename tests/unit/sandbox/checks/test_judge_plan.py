"""What is known of tests before any program is checked."""

import re

import pytest
from nad_sandbox.checks.judge_plan import TestsError, plan_tests

PLAIN = {
    "assertions": "assert add(1, 2) == 3\nassert add([1], [2]) == [1, 2], 'no'",
    "check": "def check(candidate):\n    assert candidate(1) == 2\n    assert abs(candidate(2) - 3.5) < 1e-6\n\ncheck(f)",
    "cases in a loop": "for n, want in [(2, True), (9, False)]:\n    got = is_prime(n)\n    assert got == want, f'{n} gave {got}'",
    "an exception": "try:\n    pop([])\n    assert False\nexcept IndexError as e:\n    assert str(e) == 'empty'",
    "an argument that is changed": "xs = [3, 1]\nsort(xs)\nassert xs == [1, 3]",
    "sorted results": "assert sorted(f(3), key=lambda x: -x) == [3, 2] and set(f(2)) == {1} and len(list(f(1))) == 0",
    "random inputs": "import random\nfor _ in range(9):\n    xs = [random.randint(0, 9) for _ in range(5)]\n    assert sort(xs) == sorted(xs)",
    "inputs that are built first": "import copy\nfor n in range(3):\n    xs = []\n    for i in range(n):\n        xs.append(i)\n    assert total(copy.deepcopy(xs)) == total(xs)",
    "imports of the program": "from solution import add as plus\nimport candidate\nassert plus(1, 1) == candidate.add(1, 1)",
    "a function of the tests": "def is_sorted(xs):\n    return all(a <= b for a, b in zip(xs, xs[1:]))\n\nassert is_sorted(sort([2, 1]))",
    "types": "assert isinstance(f(1), int) and type(f(2)) is float and f(3) is None and f(4) is not True",
    "test functions": "def test_a():\n    assert add(1, 1) == 2\n\ndef test_b():\n    assert add(2, 2) == 4",
    "math": "import math\nassert math.isclose(area(1), math.pi) and round(area(2), 2) == 12.57",
    "text": "assert shout('a').lower().split(',') == ['a'] and ','.join(words('a b')) == 'a,b'",
    "a name of a built-in function": "assert sum(10, 15) == 6",
}  # fmt: skip

NOT_PLAIN = {
    "a name that is not called": ("put('a', 1)\nassert CACHE == {'a': 1}", "'CACHE' is used without being called"),
    "a function as an argument": ("assert apply(lambda x: x, 1) == 1", "something else than plain data"),
    "a built-in function as an argument": ("assert apply(len, 'a') == 1", "'len' is used as a value"),
    "a method of an object": ("s = Stack()\ns.push(1)\nassert s.pop() == 1", "the method 'push'"),
    "an attribute": ("assert make(1).x == 1", "the attribute 'x'"),
    "identity": ("x = [1]\nassert same(x) is x", "identity"),
    "a result that is changed": ("x = f()\nx.append(1)\nassert g() == [1]", "'x', which the program gave"),
    "an argument that is changed later": ("x = [1]\nkeep(x)\nx[0] = 2\nassert kept() == [2]", "'x', which the program gave"),
    "an input that a loop changes": ("x = []\nfor i in range(2):\n    x.append(i)\n    assert n(x) == i + 1", "'x', which"),
    "an iterator as an argument": ("assert total(range(3)) == 3", "something else than plain data"),
    "a generator as an argument": ("assert total(i for i in [1]) == 1", "a generator is not used up"),
    "a class": ("class A: pass\nassert f(1) == 2", "ClassDef"),
    "a context": ("import pytest\nwith pytest.raises(ValueError):\n    f()\nassert f(1) == 1", "the module 'pytest'|With"),
    "a seed": ("import random\nrandom.seed(1)\nassert roll() == 2", r"random\.seed"),
    "a fixture": ("def test_x(tmp_path):\n    assert f(1) == 2", "has parameters"),
    "a set-up function": ("def setup_function(f): pass\ndef test_x():\n    assert f(1) == 2", "pytest calls"),
    "next": ("assert next(f(1)) == 2", r"next\(\) is called"),
    "an exception of the program": ("try:\n    f()\nexcept Mine:\n    assert True", "'Mine' is used without"),
    "another module": ("import json\nassert json.loads(f()) == 1", "the module 'json'"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_tests_that_only_call_with_plain_data_are_plain(name):
    assert plan_tests(PLAIN[name]).not_plain == ""


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_what_is_more_than_calls_with_plain_data_is_not_plain(name):
    tests, reason = NOT_PLAIN[name]
    found = plan_tests(tests).not_plain
    assert found
    assert re.search(reason, found), found


@pytest.mark.parametrize(
    ("tests", "kind"),
    [
        ("assert f(1) == 2", "script"),
        ("def test_f(): assert f(1) == 2", "pytest"),
        ("def test_f(): assert f(1) == 2\ntest_f()", "script"),
        ("import unittest\nclass T(unittest.TestCase):\n    def test_f(self): pass", "pytest"),
        ("class TestF:\n    def test_f(self): assert f(1) == 2", "pytest"),
        ("class TestF:\n    pass\nassert f(TestF) == 2", "script"),
        (">>> f(1)\n2\n", "doctest"),
        ('"""\n>>> f(1)\n2\n"""', "doctest"),
        ("if f(1) != 2:\n    raise ValueError", "script"),
    ],
)
def test_how_tests_are_run(tests, kind):
    assert plan_tests(tests).kind == kind


@pytest.mark.parametrize(
    ("tests", "subjects"),
    [
        ("x = 1\nassert add(x, len('a')) == 2", {"add"}),
        ("def helper(a): return other(a)\nassert helper(1) == 2", {"other"}),
        ("from solution import a as b\nimport main\nassert b(1) == main.c(2)", {"a", "c"}),
        ("assert sum(10, 15) == 6", {"sum"}),
        ("assert sorted(add(1)) == [1]", {"add"}),
        ("from solution import *\nassert add(1) == all([1])", {"add"}),
        ("class A:\n    def m(self): return thing(self)\nassert A().m() == 1", {"thing"}),
    ],
)
def test_names_that_tests_do_not_define_are_the_programs(tests, subjects):
    assert set(plan_tests(tests).subjects) - {"*"} == subjects


def test_an_entry_point_may_be_called_like_a_built_in_function():
    tests = "def check(candidate):\n    assert candidate([1]) == 1\n\ncheck(sum)"
    assert "sum" in plan_tests(tests, "sum").subjects


def test_modules_that_may_be_missing_are_not_demanded():
    tests = "import json, solution\ntry:\n    import numpy\nexcept ImportError:\n    numpy = None\nassert f(1) == 2"
    assert plan_tests(tests).modules == ("json",)


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ("assert (", "do not compile"),
        ("x = 1", "check nothing"),
        ("class Nothing: pass", "check nothing"),
        ("import pytest\npytestmark = pytest.mark.skip\ndef test_x(): assert f(1) == 2", "leave themselves out"),
        ("def test_x(thing): assert thing == f(1)", "fixture 'thing'"),
    ],
)
def test_tests_that_can_judge_nothing_are_refused(tests, message):
    with pytest.raises(TestsError, match=message):
        plan_tests(tests)
