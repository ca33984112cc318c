"""Whatever a model wrote is a tree or None: never an exception, never a warning, in any number of threads."""

import ast
import gc
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from nad_sandbox.checks import guarded_parse
from nad_sandbox.checks.examples import Example
from nad_sandbox.checks.guarded_parse import LONGEST_PROGRAM, error_line, parse_expression, parse_program, unparse
from nad_sandbox.checks.judge_plan import plan_tests
from nad_sandbox.checks.verifier import _is_literal

BROKEN = {
    "no Python": "x = = 1",
    "brackets": "(" * 5000 + ")" * 5000,
    "terms": "x = 1" + " + 1" * 20_000,
    "signs": "-" * 50_000 + "1",
    "attributes": "x" + ".a" * 50_000,
    "indentation": "".join(" " * depth + "if 1:\n" for depth in range(200)),
    "NUL": "x = 1\0",
    "surrogate": "x = '\ud800'",
    "digits": "x = " + "1" * 10_000,
    "too long": "#" * (LONGEST_PROGRAM + 1),
}


@pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_parsed_is_none(source):
    assert parse_program(source) is None
    assert parse_expression(source) is None


def test_what_parses_is_a_tree_and_its_warnings_are_nobodys():
    assert isinstance(parse_program("x = '\\d'\ny = 1if x else 2\n"), ast.Module)
    assert isinstance(parse_expression("f('\\d')"), ast.Expression)
    assert parse_expression("[" * 41 + "]" * 41) is None
    assert parse_expression("f(" + "1, " * 1000 + ")") is None
    assert parse_expression("f(" + "1, " * 1000 + ")", longest=4000) is not None


def test_the_line_of_an_error_is_known():
    assert error_line("x = 1\ny = = 2\n") == 2
    assert error_line("x = 1\n") is None
    assert error_line("-" * 50_000) == 1


def test_a_tree_that_is_too_deep_has_no_text():
    deep = parse_program("x = 1" + " + 1" * (sys.getrecursionlimit() + 200))
    assert deep is None or unparse(deep) is None
    assert unparse(ast.parse("x=1")) == "x = 1"


@pytest.fixture
def threads_take_turns_within_a_parse(monkeypatch):
    """The garbage collector hands over to another thread while a tree is made, and a parse has one try."""

    def hand_over(_phase, _info):
        time.sleep(0)

    monkeypatch.setattr(guarded_parse, "_TRIES", 1)
    threshold = gc.get_threshold()
    gc.callbacks.append(hand_over)
    gc.set_threshold(700)
    yield
    gc.callbacks.remove(hand_over)
    gc.set_threshold(*threshold)


@pytest.mark.usefixtures("threads_take_turns_within_a_parse")
def test_threads_that_parse_at_the_same_time_do_not_disturb_one_another():
    source = "def f(x):\n    return [x, {1: (2, 3)}]\n" * 20
    with ThreadPoolExecutor(4) as threads:
        trees = list(threads.map(lambda _: parse_program(source), range(20)))
    assert all(tree is not None and len(tree.body) == 20 for tree in trees)


@pytest.mark.usefixtures("threads_take_turns_within_a_parse")
def test_tests_are_planned_while_other_threads_parse():
    tests = "assert f(1) == [1, {1: (2, 3)}]\n" * 20
    with ThreadPoolExecutor(4) as threads:
        plans = list(threads.map(lambda i: plan_tests(tests) if i % 2 else parse_program(tests), range(20)))
    assert all(plan is not None for plan in plans)


def test_an_expected_value_that_cannot_be_parsed_is_no_literal():
    long_list = repr(list(range(2000)))
    for expected, literal in (("1" + " + 1" * 9000, False), ("(" * 500 + ")" * 500, False), (long_list, True)):
        assert _is_literal(Example("f(1)", expected, ())) is literal
