"""Assertions that somebody writes: how they read, and which programs pass them."""

from nad_sandbox import AssertionRunner
from nad_sandbox.backends.local import UnsafeLocalSandbox

PROMPT = "def span(numbers: List[int]) -> Tuple[int, float]:\n    '''Smallest and mean.'''"
RIGHT = "def span(numbers):\n    return min(numbers), sum(numbers) / len(numbers)"
WRONG = "def span(numbers):\n    return max(numbers), sum(numbers) / len(numbers)"


def checked(*programs, items, prompt=PROMPT, **options):
    asked = []

    def write(text, schemas):
        asked.append((text, schemas))
        return items

    with UnsafeLocalSandbox() as sandbox:
        runner = AssertionRunner(sandbox, write, **options)
        return runner.check([f"```python\n{program}\n```" for program in programs], prompt=prompt), asked


def test_programs_pass_what_they_return():
    items = [
        {"numbers": [1, 2], "expected_result": [1, 1.5]},
        {"numbers": [0.1, 0.2], "expected_result": [0.1, 0.15]},
        {"numbers": [3], "expected_result": [3, 3]},
        {"numbers": [], "expected_result": [0, 0]},
    ]
    results, asked = checked(RIGHT, WRONG, "def span(", items=items)
    assert results.assertions[0] == "assert span([1, 2]) == [1, 1.5]"
    assert results.passed == ((True, True, True, False), (False, False, True, False), (False,) * 4)
    assert asked[0][0] == PROMPT
    assert asked[0][1]["numbers"]["items"] == {"type": "integer"}


def test_booleans_are_no_numbers():
    items = [{"x": 1, "expected_result": True}, {"x": 1, "expected_result": 1}]
    results, _ = checked("def f(x):\n    return x == 1", items=items, prompt="def f(x: int) -> bool:")
    assert results.passed == ((True, False),)


def test_what_is_no_assertion_is_left_out():
    items = [
        3, {"numbers": [1]}, {"numbers": [1], "expected_result": object()}, {"wrong": 1, "expected_result": 1},
        {"numbers": [3], "expected_result": [3, 3]}, {"numbers": [3], "expected_result": [3, 3]},
        {"numbers": [4], "expected_result": [4, 4]},
    ]  # fmt: skip
    results, _ = checked(RIGHT, items=items, max_assertions=1)
    assert results.assertions == ("assert span([3]) == [3, 3]",)
    assert checked(RIGHT, items=[3])[0].passed == ((),)


def test_nothing_is_written_where_no_function_is_asked_for():
    results, asked = checked("print(1)", "print(2)", items=[{"x": 1, "expected_result": 1}], prompt="Print one.")
    assert (results.assertions, results.passed, asked) == ((), ((), ()), [])
