"""When two outcomes are the same, and how they read; the forms are made by the harness itself."""

from fractions import Fraction
from importlib import resources

import pytest
from nad_sandbox.backends.local import UnsafeLocalSandbox
from nad_sandbox.behaviour.outcome import Outcome, read_outcome
from nad_sandbox.behaviour.runner import BehaviourRunner


@pytest.fixture(scope="module")
def canonical():
    path = resources.files("nad_sandbox.harness").joinpath("observed_program.py")
    source = path.read_text(encoding="utf-8")
    scope = {"__name__": "calls"}
    exec(compile(source, str(path), "exec"), scope)
    return scope["canonical"]


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (1, 1.0, True),
        (0.1 + 0.2, 0.3, True),
        (1e9, 1e9 + 1, True),
        (1.0, 1.001, False),
        (float("nan"), float("nan"), True),
        (float("inf"), float("-inf"), False),
        (10**400, 10**400, True),
        (10**400, 1.5, False),
        (True, 1, False),
        ([1, 2], (1, 2), True),
        ([1, 2], [2, 1], False),
        ({3, 1, 2}, {1, 2, 3}, True),
        ({"a": 1, "b": [2.0]}, {"b": [2], "a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        (iter([1, 2]), [1, 2], True),
        ("1", 1, False),
        ("a", "a", True),
        (None, False, False),
        (Fraction(1, 2), Fraction(1, 2), True),
        (Fraction(1, 2), Fraction(1, 3), False),
    ],
)
def test_values_are_compared_and_not_their_looks(canonical, left, right, same):
    a, b = Outcome({"returned": canonical(left)}), Outcome({"returned": canonical(right)})
    assert a.matches(b) is same
    assert b.matches(a) is same


def test_exceptions_output_and_changed_arguments_count():
    returned = Outcome({"returned": None})
    assert not returned.matches(Outcome({"raised": "ValueError"}))
    assert not Outcome({"raised": "KeyError"}).matches(Outcome({"raised": "ValueError"}))
    assert Outcome({"returned": None, "printed": "a \nb\n"}).matches(Outcome({"returned": None, "printed": "a\nb"}))
    assert not Outcome({"returned": None, "printed": "a"}).matches(Outcome({"returned": None, "printed": "b"}))
    assert not returned.matches(Outcome({"returned": None, "changed": ["list", []]}))
    # what is not deterministic matches its like only
    assert not Outcome({"returned": None}, stable=False).matches(returned)
    assert Outcome({"returned": 1}, stable=False).matches(Outcome({"returned": 2}, stable=False))


def test_outcomes_read_as_python(canonical):
    value = {"a": [1, 2.5, "x"], "b": {3}}
    assert Outcome({"returned": canonical(value)}).text == "{'a': [1, 2.5, 'x'], 'b': {3}}"
    assert Outcome({"raised": "ValueError", "printed": "hm"}).text == "raised ValueError, printed 'hm'"
    assert Outcome({"ended": "timeout"}).text == "ran out of time"
    assert Outcome({"returned": canonical(10**5000)}).text == "a long number"
    assert len(Outcome({"returned": canonical("x" * 1000)}).text) == 160
    assert Outcome({"returned": 1}, stable=False).text == "not deterministic"


def test_numbers_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="max_inputs is 0"):
        BehaviourRunner(UnsafeLocalSandbox(), max_inputs=0)


def nested(depth):
    form = ["list", []]
    for _ in range(depth):
        form = ["list", [form]]
    return form


@pytest.mark.parametrize(
    "told",
    [[], None, 3, "x", {}, {"stable": True}, {"unknown": 1}, {"returned": []}, {"returned": ["int", "zz"]},
     {"returned": ["int", 3]}, {"returned": ["float", "x"]}, {"returned": ["dict", [[1]]]}, {"returned": ["dict", 3]},
     {"returned": ["list", None]}, {"returned": ["list", ["a"]]}, {"returned": ["str", 3]}, {"returned": ["object"]},
     {"returned": ["set", [["int", "1"]], 2]}, {"returned": "text"}, {"returned": 3.5}, {"returned": [["list", []], []]},
     {"changed": ["long", "x", "y"]}, {"printed": 3}, {"printed": ["str", "x"]}, {"raised": ["KeyError"]},
     {"ended": "never"}, {"returned": nested(5000)}],
)  # fmt: skip
def test_what_the_observer_cannot_have_seen_is_a_program_that_broke_its_process(told):
    outcome = read_outcome(told)
    assert outcome.text == "ended its process"
    assert outcome.matches(read_outcome(told))


def test_what_the_observer_saw_is_read(canonical):
    for value in (
        1,
        -(2**70),
        1e300,
        -0.0,
        float("nan"),
        "x",
        [1, (2,)],
        {3},
        {"a": None},
        True,
        object(),
        Fraction(1, 3),
    ):
        told = {"returned": canonical(value), "printed": "x", "stable": True}
        assert read_outcome(told) == Outcome({"returned": canonical(value), "printed": "x"})
    assert read_outcome({"raised": "KeyError", "stable": False}) == Outcome({"raised": "KeyError"}, stable=False)
