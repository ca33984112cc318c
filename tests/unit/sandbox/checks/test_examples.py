"""Examples in prompts: what is certain is read as it is meant, and what is not is named and left out."""

from dataclasses import asdict

import pytest
from nad_sandbox.checks.examples import find_examples, read_examples
from nad_sandbox.checks.examples.scanner import literal
from nad_sandbox.checks.report import CheckResult, Report
from nad_sandbox.harness.examples import ExampleError, check_examples

CERTAIN = {
    # commas and conjunctions
    "roman(4) == 'IV', roman(9) == 'IX'": {"roman(4)": "'IV'", "roman(9)": "'IX'"},
    "Write roman(n). roman(4) == 'IV' and roman(9) == 'IX'.": {"roman(4)": "'IV'", "roman(9)": "'IX'"},
    "add(1, 2) == 3, add(2, 2) == 4.": {"add(1, 2)": "3", "add(2, 2)": "4"},
    "add(1, 2) == 3; add(2, 2) == 4": {"add(1, 2)": "3", "add(2, 2)": "4"},
    "f(2)==4,f(3)==9": {"f(2)": "4", "f(3)": "9"},
    "f(2) == 4,\nf(3) == 9": {"f(2)": "4", "f(3)": "9"},
    "E.g., f(2) returns 4, and f(3) returns 9.": {"f(2)": "4", "f(3)": "9"},
    "(e.g. f(2)=4, f(3)=9)": {"f(2)": "4", "f(3)": "9"},
    # what follows the value
    "half(5) returns 2.5 (a float)": {"half(5)": "2.5"},
    "half(5) == 2.5 (a float).": {"half(5)": "2.5"},
    "f(2) == 4 because 2*2 is 4": {"f(2)": "4"},
    "f(2) == 4 # square": {"f(2)": "4"},
    "f(2) == 4 — it doubles": {"f(2)": "4"},
    "assert f(2) == 4, 'wrong square'": {"f(2)": "4"},
    "f(2) should return 4, not 5": {"f(2)": "4"},
    "f(2) should return 4 instead of 5. Fix it": {"f(2)": "4"},
    # forms of writing
    "print(f(2))  # 4": {"print(f(2))": "4"},
    "f(2)  # returns 4": {"f(2)": "4"},
    "The result of f(2) is 4.": {"f(2)": "4"},
    "f(2) == 4, f(0) returns 1 and f(-1) raises ValueError.": {"f(2)": "4", "f(0)": "1", "f(-1)": "ValueError"},
    "f(2)\u00a0==\u00a04": {"f(2)": "4"},
    "f(2) must be 4": {"f(2)": "4"},
    "f(2) always returns exactly 4": {"f(2)": "4"},
    "f(2) → 4, f(3) ⇒ 9": {"f(2)": "4", "f(3)": "9"},
    "| call | result |\n|---|---|\n| f(2) | 4 |\n| `f(3)` | `9` |": {"f(2)": "4", "f(3)": "9"},
    "- `f(2)`: 4\n- **f(3)** returns **9**\n- `f(4) == 16`": {"f(2)": "4", "f(3)": "9", "f(4)": "16"},
    "say \"f('a') == 'b'\"": {"f('a')": "'b'"},
    'f("it\'s") == \'a "b" c\'': {'f("it\'s")': "'a \"b\" c'"},
    "f('a, b') == 'c, d', f('x') == '(y'": {"f('a, b')": "'c, d'", "f('x')": "'(y'"},
    "f(“abc”) == “cba”": {'f("abc")': '"cba"'},
    # values
    "f(-3) == -27, f(−2) == −8": {"f(-3)": "-27", "f(-2)": "-8"},
    "f(1e-3) == 1e-6": {"f(1e-3)": "1e-6"},
    "f(2) == 1_000": {"f(2)": "1_000"},
    "f(2) returns true.": {"f(2)": "True"},
    'f({"a": true, "b": null}) == {"ok": true}': {"f({'a': True, 'b': None})": "{'ok': True}"},
    "f(1) == {\n    'a': 1,\n    'b': 2,\n}\nf(2) == 3": {"f(1)": "{'a': 1, 'b': 2}", "f(2)": "3"},
    "f(2) == {\n  1,\n  2\n}.": {"f(2)": "{1, 2}"},
    "f([\n  [1, 2],\n], 1) == 3": {"f([[1, 2]], 1)": "3"},
    # code in the prompt
    'def add(a, b):\n    """add(1, 2) == 3, add(2, 2) == 4."""\n': {"add(1, 2)": "3", "add(2, 2)": "4"},
    "Fix bugs.\ndef f(x):\n    '''\n    >>> f(2)\n    4\n    '''\n    return 5\n": {"f(2)": "4"},
    "Fix my code: assert f(2) == 4": {"f(2)": "4"},
    "def f(x, y): ...\n**Input:** x = 1, y = [1,2]\n**Output:** true\n": {"f(1, [1, 2])": "True"},
    "def f(x): ...\nFor x = 1, the output should be 2": {"f(1)": "2"},
    # doctests
    "```\n>>> f(1)\n2\n```\n": {"f(1)": "2"},
    ">>> f(1) == 2\nTrue\n": {"f(1)": "2"},
    ">>> f(1) -> 2": {"f(1)": "2"},
    ">>> f([1,\n...    2])\n3\n": {"f([1, 2])": "3"},
    ">>> show()\n1\n2\n3\n": {"show()": "1\n2\n3"},
    "def f(x):\n    '''\n    >>> f(1)\n    2'''\n": {"f(1)": "2"},
}


@pytest.mark.parametrize("prompt", CERTAIN)
def test_what_is_certain_is_read(prompt):
    found = read_examples(prompt)
    assert {example.call: example.expected for example in found.examples} == CERTAIN[prompt]
    assert found.uncertain == ()


UNCERTAIN = (
    # more than one value, and thousands
    "f(10) == 1,000", "f(10) returns 1,000.", "f(1,000) == 2", "f([1,000, 2,000]) == 2", "f(2) == [1,234, 5]",
    "f(2) == 1, 2", "f(2) returns 'a', 'b'", "f(2) == 4 or 5", "f(2) returns [1, 2] or [2, 1]", "f(2) == 1 000",
    "f(2) == 1.000,5", "f(2) == 4,\n5 times", "f(2) == ('a')",
    # reports, denials, questions, conditions
    "f(3) returns -1 instead of 3. Fix it", "f(3) == 4 is wrong", "f(3) should not return 4",
    "f(3) returns 4 but got 5",
    "f(3) currently returns 4", "Currently f(3) == 4", "f(2) gives 5 but should be 4", "f(2) != 5", "f(2) is not 5",
    "f(2) doesn’t return 4", "f(2) never returns 4", "The current output is f(2) == 5",
    "Don't let f(2) == 5", "My function is broken: f(2) == 5",
    "There is a bug. f(2) returns 5. It should return 4.", "f(2) returns 5. It should return 4.",
    "f(2) == 4\n\nFix it", "f(2) == 4  # wrong!", "f(2)==4 (not 5)", "f(2) returned 4", "why does f(2) return 3?",
    "Why is f(2) == 3?", "f(2) == 4?", "f(2) is 4, right?", "If f(2) == 4, then g", "f(2) == 4 when x",
    "Wrong:\nf(2) == 4", "These should fail:\n- f(2) == 4", "❌ f(2) == 5", "~~f(2) == 5~~", "Not: f(2) == 5",
    "| call | actual | expected |\n|---|---|---|\n| f(2) | 5 | 4 |", "This is wrong:\n>>> f(1)\n2",
    "Here is a bug in my code:\n\n>>> f(1)\n2\n", "f(2) should return 4 but currently returns 5",
    # units and formulas
    "f(2) returns 5 apples", "f(2) == 5%", "f(2) == 5 km", "f(2) == 1/2", "f(2) == 4 (mod 7)", "f(2) == 3!",
    "f(2) == 1.5 × 10^3", "f(2) == 4 == g(2)", "f(1) == f(2)", "2 * f(3) == 12", "f(1) + f(2) == 5", "x > f(2) == 3",
    "not f(2) == True", "assert not f(2) == 4", "if f(2) == 4:\n  pass", "x = f(2) == 4", "print(f(2) == 3)",
    "f(2) -> 4 -> 8", "f(2) = 4", "s.f(2) == 3", "Write a function lcm(a, b), where gcd(4, 6) == 2",
    "class S:\n    def two(self, a):\n        pass\n\ntwo([1]) == 2", "def f(n):\n  pass\nf(1,234) == 5",
    "put('a', 1)\nget('a') == 1", "f(2) == 4\nf(2) == 5", "Return them in any order. f(2) == [[1, 2], [2, 1]]",
    # values that cannot be read
    "f(2) == [1, 2, ..., 9]", "f(2) == 007", "f(2) returns ‘it’s’", "greet('Bob') -> Hello, Bob!", "f(0) -> ValueError",
    "f(2) == 'multi' 'part'",
    # doctests
    ">>> f(0)\nValueError: bad\n", ">>> f(0)\n[0, 1, ..., 9]\n", ">>> f(1)\n2\nThe function must be fast.\n",
    ">>> x = [1]\n>>> f(x)\n2\n", ">>> f(2) == 2\nFalse\n", ">>> f(1) # doctest: +SKIP\n2", "  >>> f(1)\n 2",
    ">>> put('a', 1)\n>>> get('a')\n1\n", ">>> counter()\n1\n>>> counter()\n2\n",
    "def f(x):\n    \"\"\"\n    >>> f('a\\\\nb')\n    2\n    \"\"\"\n",
)  # fmt: skip


@pytest.mark.parametrize("prompt", UNCERTAIN)
def test_what_is_uncertain_is_left_out_and_named(prompt):
    found = read_examples(prompt)
    assert found.examples == ()
    assert found.uncertain
    assert all(place.reason and place.text for place in found.uncertain)


@pytest.mark.parametrize(
    "prompt", ["f(0) # error", "Use f(x) == y.", "f(2) calls g(3)", "max(1, 2) == 2", "", "def f(x: int) -> 4"]
)
def test_what_is_no_example_is_not_named(prompt):
    assert read_examples(prompt) == read_examples("no call at all")


def check(prompt, source):
    """What the judge says of a program: nothing, or how it fails."""
    scope = {}
    exec(source, scope)
    examples = [
        asdict(example) | {"literal": literal(example.expected) is not None} for example in find_examples(prompt)
    ]
    assert examples, prompt
    try:
        check_examples(examples, scope, {})
    except ExampleError as error:
        return error.detail
    return None


HALF = "def half(x): return x / 2"
RIGHT_AND_WRONG = [
    ("half(5) returns 2.5 (a float)", HALF, HALF.replace("/", "//")),
    ("pi() == 3.14159...", "def pi(): return 3.14159265", "def pi(): return 3.15"),
    ("pi() == 3.14159...", "def pi(): return 3.14159", "def pi(): return 3.1417"),
    (">>> pi()\n3.14159…\n", "import math\ndef pi(): return math.pi", "def pi(): return 3"),
    ("pi() ≈ -3.14", "def pi(): return -3.1416", "def pi(): return 3.1416"),
    ("root(2) is about 1.41", "def root(x): return x ** 0.5", "def root(x): return True"),
    ("bmi(70, 1.75) -> 22.86", "def bmi(w, h): return w / h**2", "def bmi(w, h): return w / h"),
    ("bmi(70, 1.75) -> 22.86", "def bmi(w, h): return round(w / h**2, 2)", "def bmi(w, h): return 22.8"),
    ("Round it. f(3) == 0.33", "def f(x): return 0.33", "def f(x): return 1 / 3"),
    ("f(0) raises ValueError", "def f(x): raise ValueError('any')", "def f(x): raise TypeError"),
    ("f(0) should raise a `LookupError`.", "def f(x): return {}[x]", "def f(x): return 0"),
    (
        ">>> f(0)\nTraceback (most recent call last):\n    ...\nValueError: bad 0\n",
        "def f(x): raise ValueError('bad %d' % x)",
        "def f(x): raise ValueError('worse')",
    ),
    (
        ">>> f(0)  # doctest: +IGNORE_EXCEPTION_DETAIL\nTraceback (most recent call last):\nValueError: bad 0\n",
        "def f(x): raise ValueError('worse')",
        "def f(x): raise KeyError('bad 0')",
    ),
    (">>> f(9)  # doctest: +ELLIPSIS\n[0, ..., 8]\n", "def f(x): return list(range(x))", "def f(x): return [1, 8]"),
    (">>> f(1)\nLoading...\n", "def f(x): print('Loading...')", "def f(x): print('Loading')"),
    (">>> f(2)\n0\n1\n", "def f(x):\n    for i in range(x): print(i)", "def f(x): return 0"),
    (">>> f(1)\na\n<BLANKLINE>\nb\n", "def f(x): print('a\\n\\nb')", "def f(x): print('a\\nb')"),
    (">>> f(1)\n{'a': 1,\n 'b': [2]}\n", "def f(x): return {'b': [2], 'a': 1}", "def f(x): return {'a': 1}"),
    (">>> f(1)\nabc\n", "def f(x): return 'abc'", "def f(x): return 'ab'"),
    ("print(f('a'))  # 'b'", "def f(x): return 'b'", "def f(x): return 'c'"),
    ("f(2) prints 4", "def f(x): print(x * 2)", "def f(x): print(5)"),
    ("f(2) == 4", "def f(x): return 4", "def f(x): print(4)"),
]  # fmt: skip


@pytest.mark.parametrize(("prompt", "right", "wrong"), RIGHT_AND_WRONG)
def test_the_right_program_passes_and_the_wrong_one_fails(prompt, right, wrong):
    assert check(prompt, right) is None
    assert check(prompt, wrong)


@pytest.mark.parametrize(
    ("prompt", "source"),
    [
        ("f(2) == 4", "class E:\n    def __repr__(s): return '4'\ndef f(x): return E()"),
        ("f(2) == 4", "def f(x): print(4)"),
        ("f(2) == 'IV'", "class E:\n    def __repr__(s): return repr('IV')\ndef f(x): return E()"),
        ("f(0) raises ValueError", "def f(x): return ValueError"),
    ],
)
def test_no_failure_shows_the_same_value_twice(prompt, source):
    detail = check(prompt, source)
    assert detail["expected"] != detail["got"]


def test_feedback_does_not_expect_what_came():
    failed = CheckResult("tests", passed=False, assertion="assert f(1) != 3", expected="3", got="3")
    feedback = Report(passed=False, checks=(failed,)).feedback
    assert "Expected" not in feedback
    assert "The value is 3, for which this does not hold." in feedback


def test_the_report_names_what_was_not_checked():
    report = Report(passed=True, checks=(), unchecked_examples=("f(2) == 4 is wrong: doubtful",))
    assert report.to_dict()["unchecked_examples"] == ["f(2) == 4 is wrong: doubtful"]
    assert "unchecked_examples" not in Report(passed=True, checks=()).to_dict()


LARGE = {
    "blank lines": "x\n" + "\n" * 40_000,
    "blank lines below an input": "def f(x): ...\nInput: x = 1\n" + " \n" * 40_000,
    "blank lines below a doctest": ">>> f(1)\n" + "\n" * 40_000,
    "tabs in a docstring": 'def f(x):\n    """Doc\n    ' + "\t" * 40_000 + '\n    """\n',
    "marks in a docstring": 'def f(x):\n    """Doc\n    ' + "* " * 20_000 + "*" * 40_000 + '\n    """\n',
    "an input with many terms": "def f(x): ...\nInput: x = " + "1+" * 480 + "1\nOutput: 481\n",
    "a doctest that compares many terms": ">>> " + "1+" * 900 + "1 == f(2)\nTrue\n",
    "spaces": "For a = " + " " * 40_000 + "x",
    "open parentheses": "f(" * 20_000,
    "open brackets": "f([{" * 10_000,
    "definitions": "def f(" * 20_000,
    "doctest prompts": ">>> " * 20_000,
    "doctests": ">>> f(1)\n2\n" * 1_000,
    "quotation marks": "'" * 40_000,
    "nested lists": "f(" + "[" * 5_000 + "]" * 5_000 + ") == 1",
    "signs": "f(" + "-" * 5_000 + "1) == 1",
    "sums": "f(" + "1+" * 900 + "1) == 1",
    "towers of powers": "f(9**9**9**9) == 1",
    "a digit too many": "f(1) == " + "9" * 5_000,
    "one line": "f(1) == 2, " * 10_000,
    "too long": "f(1) == 2\n" * 110_000,
}


@pytest.mark.timeout(60)  # what takes quadratic time takes far longer
@pytest.mark.parametrize("kind", LARGE)
def test_no_prompt_takes_long_or_breaks_the_parser(kind):
    found = read_examples(LARGE[kind])
    assert len(found.examples) <= 1


def test_invalid_escapes_are_read_as_python_reads_them_without_a_warning():
    (example,) = find_examples(r'match("\d+") == "\w"')
    assert (example.call, example.expected) == (r'match("\\d+")', r'"\\w"')
