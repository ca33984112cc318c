"""When two outcomes are the same, and how they read; the forms are made by the harness itself."""

import enum
import functools
import operator
from fractions import Fraction
from importlib import resources

import pytest
from nad_sandbox.backends.local import UnsafeLocalSandbox
from nad_sandbox.behaviour.outcome import Outcome, read_outcome
from nad_sandbox.behaviour.runner import BehaviourRunner


@pytest.fixture(scope="module")
def canonical():
    path = resources.files("nad_sandbox.harness").joinpath("canonical_form.py")
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
    long = Outcome({"returned": None, "printed": ["long", 9000, "0123456789ab"]})
    assert long.text == "printed <a long result: 9000 characters, SHA-256 01234567>"
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
     {"ended": "never"}, {"ended": []}, {"returned": None, "stable_items": 3}, {"returned": ["function", [[["list", []], "returned"]]]},
     {"returned": ["function", [[["int", "1"], "returned", None]]]}, {"returned": ["function", [[["list", []], [], None]]]}, {"returned": nested(5000)}],
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
    assert not read_outcome({"raised": "KeyError", "deliberate": True, "stable": True}).crashed
    assert read_outcome({"ended": "exit", "deliberate": True, "stable": True}).crashed


class Shade(enum.Enum):
    LIGHT = 1


def test_functions_are_compared_by_what_they_do(canonical):
    def add(n):
        return lambda x: x + n

    def plus(n):
        def inner(value):
            return n + value

        return inner

    def shown(value):
        return Outcome({"returned": canonical(value, 32)})

    assert shown(add(3)).matches(shown(plus(3)))
    assert shown(add(3)).matches(shown(functools.partial(operator.add, 3)))
    assert not shown(add(3)).matches(shown(add(4)))
    assert not shown([add(3)]).matches(shown([add(4)]))
    assert not shown(lambda x: add(3)).matches(shown(lambda x: add(4)))
    assert shown(add(3)).text == "<function: (3) gives 6, otherwise raises TypeError>"
    assert shown(print).text.startswith("<function: (3) prints '3\\n', (2, 5) prints '2 5\\n', ")
    assert read_outcome({"returned": canonical(add, 32)}) == shown(add)


def test_functions_are_called_a_bounded_number_of_times(canonical):
    called = []

    def again(*args):
        called.append(args)
        return again

    def fresh(*args):
        called.append(args)
        return functools.partial(fresh)

    for function in (again, fresh, [fresh] * 100):
        called.clear()
        form = canonical(function, 32)
        assert len(called) <= 32
        assert read_outcome({"returned": form}).text.startswith(("<function", "[<function"))
    assert canonical(again) == canonical(fresh)


def test_objects_are_written_by_what_they_hold_and_the_writing_ends(canonical):
    class Slots:
        __slots__ = ("x",)
        __module__ = "candidate"

        def __init__(self, x):
            self.x = x

    class Node:
        __module__ = "candidate"

        def __init__(self):
            self.next = self.before = self.other = None

    async def numbers():
        yield 1
        yield 2

    assert canonical(Slots(1)) != canonical(Slots(2))
    assert canonical(Shade.LIGHT) == ["object", "Shade", ["list", [["str", "LIGHT"], ["int", "1"]]]]
    assert canonical(numbers()) == canonical([1, 2])
    assert Outcome({"returned": canonical(object())}).text == "<object>"
    first, second = Node(), Node()
    first.next, second.before, first.other, second.other = second, first, second, first
    assert read_outcome({"returned": canonical(first)}).seen["returned"][:2] == ["object", "Node"]


def test_a_run_that_a_limit_ends_says_so_and_not_that_it_differs():
    slow = (
        "import os\nagain = os.path.exists('seen')\nopen('seen', 'w').close()\n"
        "def total(numbers):\n    while again: pass\n    return 1\n"
    )
    large = "def total(numbers):\n    return 'x' * (1 << 24)\n"
    with UnsafeLocalSandbox() as sandbox:
        for code, seconds, text in ((slow, 0.4, "ran out of time"), (large, 8, "gave more than can be compared")):
            runner = BehaviourRunner(sandbox, max_inputs=1, seconds_per_input=seconds, timeout=20)
            observed = runner.observe([f"```python\n{code}```"], prompt="Write total(numbers).")
            assert [outcome.text for outcome in observed.outcomes[0]] == [text]


def test_files_that_are_written_are_told_and_every_call_finds_them_as_they_were():
    right = "def save(path, lines):\n    with open(path, 'w') as file:\n        file.writelines(map(str, lines))\n"
    other = "from pathlib import Path\ndef save(path, lines):\n    Path(path).write_text(''.join(map(str, lines)))\n"
    with UnsafeLocalSandbox() as sandbox:
        answers = [f"```python\n{code}```" for code in (right, other, right.replace("'w'", "'a'"))]
        observed = BehaviourRunner(sandbox, max_inputs=6).observe(answers, prompt="Write save(path, lines).")
    first, alike, appending = observed.outcomes
    assert any(outcome.text.startswith("wrote {'words.txt': 'a") for outcome in first)
    assert all(a.matches(b) for a, b in zip(first, alike, strict=True))
    assert not all(a.matches(b) for a, b in zip(first, appending, strict=True))
    assert all(outcome.stable for row in observed.outcomes for outcome in row)


def test_waiting_takes_no_time():
    slow = "import time\ndef wait(n):\n    start = time.time()\n    time.sleep(90)\n    return round(time.time() - start)\n"
    with UnsafeLocalSandbox() as sandbox:
        observed = BehaviourRunner(sandbox, max_inputs=1).observe([f"```python\n{slow}```"], prompt="Write wait(n).")
    assert [outcome.text for outcome in observed.outcomes[0]] == ["90"]


def test_what_the_sandbox_lacks_is_told():
    script = "import not_there.part\nprint(input())\n"
    loaded = "from not_there import mean\ndef total(numbers):\n    return mean(numbers)\n"
    late = "def total(numbers):\n    import not_there\n    return 1\n"
    with UnsafeLocalSandbox() as sandbox:
        runner = BehaviourRunner(sandbox, max_inputs=2)
        for program in (script, loaded, late):
            [row] = runner.observe([f"```python\n{program}```"]).outcomes
            assert {outcome.missing_module for outcome in row} == {"not_there"}
            assert row[0].text == "raised ModuleNotFoundError: No module named 'not_there'"
    assert Outcome({"raised": "KeyError"}).missing_module is None
    assert Outcome({"returned": None}).missing_module is None


CHECKS = """
class TooBig(Exception):
    pass

def checked(number):
    if number == 0:
        raise ValueError("zero")
    if number == 1:
        int("one")
    if number == 2:
        return {}[number]
    if number == 3:
        assert number < 3, "three"
    if number == 4:
        raise NotImplementedError
    if number == 5:
        try:
            int("five")
        except ValueError as error:
            raise TooBig from error
    if number == 6:
        helper()
    raise SystemExit

def helper():
    raise LookupError("six")
"""


def test_an_exception_is_a_result_where_the_program_raises_it_itself():
    def calls(prompt, parameters):
        return [{"number": number} for number in range(8)]

    with UnsafeLocalSandbox() as sandbox:
        observed = BehaviourRunner(sandbox, max_inputs=8).observe(
            [f"```python\n{CHECKS}```"], prompt="Write checked(number: int).", propose=calls
        )
    assert [(outcome.text.removeprefix("raised "), outcome.crashed) for outcome in observed.outcomes[0]] == [
        ("ValueError", False),
        ("ValueError", True),
        ("KeyError", True),
        ("AssertionError", True),
        ("NotImplementedError", True),
        ("TooBig", False),
        ("LookupError", False),
        ("SystemExit", True),
    ]
