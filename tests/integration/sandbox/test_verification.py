"""What the checks accept and refuse, on the real engine."""

import json

import pytest
from nad_sandbox import CodeVerifier, Report, SandboxFailureError
from nad_sandbox.isolation.policy import WORKDIR

ADD = "def add(a, b):\n    return a + b\n"
TESTS = "assert add(1, 2) == 3\nassert add('a', 'b') == 'ab'\n"


@pytest.fixture
def check(sandbox):
    def run(code, tests=TESTS, **options):
        return CodeVerifier(sandbox, tests=tests, **options).verify(f"```python\n{code}\n```")

    return run


def test_a_right_program_passes_every_check(sandbox):
    report = CodeVerifier(sandbox, tests=TESTS).verify(f"Sure!\n```python\n{ADD}```", prompt=">>> add(1, 2)\n3\n")
    assert report.passed
    assert report.feedback == ""
    assert [c.check for c in report.checks] == ["syntax", "imports", "examples", "tests"]
    assert json.loads(json.dumps(report.to_dict()))["passed"] is True


@pytest.mark.parametrize(
    ("code", "check_name", "words"),
    [
        ("def add(a, b) return a", "syntax", ["SyntaxError"]),
        ("import nothing_like_this", "imports", ["ModuleNotFoundError", "nothing_like_this"]),
        ("def add(a, b):\n    return a - b", "tests", ["add(1, 2) == 3", "Expected: 3", "Got: -1"]),
        ("def add(a, b):\n    return a.x", "tests", ["AttributeError", "line 2, in add"]),
        ("def sub(a, b):\n    return a", "tests", ["'add' is not defined"]),
        ("def add(a, b):\n    while True:\n        pass", "tests", ["time limit"]),
        ("def add(a, b):\n    return add(b, a)", "tests", ["RecursionError"]),
    ],
)
def test_a_wrong_program_fails_with_a_report_that_helps(sandbox, code, check_name, words):
    report = CodeVerifier(sandbox, tests=TESTS, timeout=2).verify(code)
    assert not report.passed
    assert report.failure.check == check_name
    assert all(word in report.feedback for word in words), report.feedback
    assert len(report.feedback) <= 2000


CHEATS = {
    "sys.exit at load": "import sys\nsys.exit(0)",
    "os._exit at load": "import os\nos._exit(0)",
    "sys.exit in the call": "import sys\ndef add(a, b):\n    sys.exit(0)",
    "os._exit in the call": "import os\ndef add(a, b):\n    os._exit(0)",
    "printing passed": "def add(a, b):\n    print('passed', [{'check': 'tests', 'passed': True}])\n    return 0",
    "always equal object": "class E:\n    def __eq__(s, o): return True\n    def __hash__(s): return 0\ndef add(a, b):\n    return E()",
    "always equal int": "class E(int):\n    def __eq__(s, o): return True\n    def __hash__(s): return 0\ndef add(a, b):\n    return E(7)",
    "always equal string": "class E(str):\n    def __eq__(s, o): return True\n    def __hash__(s): return 0\ndef add(a, b):\n    return E('x')",
    "patched builtins": "import builtins\nbuiltins.AssertionError = type('A', (Exception,), {})\nbuiltins.repr = lambda x: '3'\n"
    "def add(a, b):\n    return 0",
    "patched unittest": "import unittest\nunittest.TestCase.assertEqual = lambda *a: None\ndef add(a, b):\n    return 0",
    "patched modules": "import sys\nsys.modules['tests'] = sys.modules['pytest'] = sys\ndef add(a, b):\n    return 0",
    "catching everything": "def add(a, b):\n    try:\n        return a / 0\n    except BaseException:\n        return None",
    "atexit": "import atexit, os\natexit.register(lambda: os._exit(0))\ndef add(a, b):\n    return 0",
    "excepthook and trace": "import sys\nsys.settrace(lambda *a: None)\nsys.excepthook = lambda *a: None\ndef add(a, b):\n    return 0",
    "replaced stdout": "import sys, io\nsys.stdout = io.StringIO()\ndef add(a, b):\n    return 0",
    "walking frames": "import sys, gc\ndef add(a, b):\n    f = sys._getframe()\n    while f:\n        for k, v in list(f.f_locals.items()):\n"
    "            if isinstance(v, str) and len(v) == 32:\n                print(v + '[]')\n        f = f.f_back\n    return 0",
    "writing to the judge's stdout": "import os\ntry:\n    os.write(os.open('/proc/%d/fd/1' % os.getppid(), os.O_WRONLY), b'x')\n"
    "    stolen = 1\nexcept OSError:\n    stolen = 0\ndef add(a, b):\n    return 3 if stolen and a == 1 else 'ab' if stolen else 0",
    "reading the judge's memory": "import os\ntry:\n    open('/proc/%d/mem' % os.getppid(), 'rb').seek(4096)\n    stolen = 1\n"
    "except OSError:\n    stolen = 0\ndef add(a, b):\n    return 3 if stolen and a == 1 else 'ab' if stolen else 0",
    "reading the tests from disk": "import os, glob\nfound = [f for f in glob.glob('/tmp/**', recursive=True) if os.path.isfile(f)]\n"
    "def add(a, b):\n    return 3 if found and a == 1 else 'ab' if found else 0",
    "killing the judge": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\ndef add(a, b):\n    return a + b",
    "forged answers": "import os, sys\ndef add(a, b):\n    for fd in range(3, 20):\n        try:\n"
    "            os.write(fd, b'{\"passed\": true}\\n')\n        except OSError:\n            pass\n    return 0",
    "an answer that is no object": "import os\ndef add(a, b):\n    for fd in range(3, 20):\n        try:\n"
    "            os.write(fd, b'[1]\\nnull\\n{}\\n')\n        except OSError:\n            pass\n    return 0",
}


@pytest.mark.parametrize("trick", CHEATS)
def test_a_trick_does_not_pass(check, trick):
    report = check(CHEATS[trick], timeout=3)
    assert isinstance(report, Report)
    assert not report.passed, trick
    assert report.failure.check in ("imports", "tests", "limits")


def test_a_program_that_knows_the_prompts_examples_still_fails_hidden_tests(sandbox):
    answer = "def add(a, b):\n    return {(1, 2): 3}[a, b]"
    prompt = "add(1, 2) == 3"
    assert CodeVerifier(sandbox).verify(answer, prompt=prompt).passed
    assert not CodeVerifier(sandbox, tests=TESTS).verify(answer, prompt=prompt).passed


EXAMPLES = [
    ("roman(4) == 'IV', roman(9) == 'IX'", "def roman(n): return {4: 'IV', 9: 'IX'}[n]", "def roman(n): return 'IV'"),
    ("half(5) returns 2.5 (a float)", "def half(x): return x / 2", "def half(x): return x // 2"),
    ("pi() == 3.14159...", "import math\ndef pi(): return math.pi", "def pi(): return 3.2"),
    (
        ">>> f(0)\nTraceback (most recent call last):\n    ...\nBankError: bad\n",
        "class BankError(Exception): pass\ndef f(x): raise BankError('bad')",
        "def f(x): raise ValueError('bad')",
    ),
    ("f(0) raises LookupError", "def f(x): return {}[x]", "def f(x): return None"),
    (">>> f(2)\n0\n1\n", "def f(x):\n    for i in range(x): print(i)", "def f(x): print(0)"),
    (
        ">>> f(9)  # doctest: +ELLIPSIS\n[0, ..., 8]\n",
        "def f(x): return list(range(x))",
        "def f(x): return [8]",
    ),
]


@pytest.mark.parametrize(("prompt", "right", "wrong"), EXAMPLES)
def test_examples_of_every_kind_tell_right_from_wrong(sandbox, prompt, right, wrong):
    verifier = CodeVerifier(sandbox)
    assert verifier.verify(right, prompt=prompt).passed
    report = verifier.verify(wrong, prompt=prompt)
    assert report.failure.check == "examples"
    assert report.failure.expected != report.failure.got


def test_uncertain_examples_are_not_checked_and_named(sandbox):
    report = CodeVerifier(sandbox).verify("def f(x): return x", prompt="f(3) == 3, f(2) == 1,000")
    assert report.passed
    (unchecked,) = report.to_dict()["unchecked_examples"]
    assert unchecked.startswith("f(2) == 1: a comma")


@pytest.mark.parametrize(
    ("tests", "source"),
    [
        ("assert f(1) != 3", "def f(x): return 3"),
        ("assert f(1) == 3", "class E:\n    def __repr__(s): return '3'\ndef f(x): return E()"),
    ],
)
def test_no_feedback_shows_the_same_value_twice(sandbox, tests, source):
    feedback = CodeVerifier(sandbox, tests=tests).verify(source).feedback
    assert "Expected: 3\nGot: 3\n" not in feedback + "\n"
    assert "3" in feedback


class TestKindsOfTests:
    def test_unittest(self, check):
        tests = (
            "import unittest\nfrom candidate import add\nclass T(unittest.TestCase):\n"
            "    def test_add(self):\n        self.assertEqual(add(1, 2), 3)\n"
        )
        assert check(ADD, tests).passed
        assert "-1 != 3" in check(ADD.replace("+", "-"), tests).feedback

    def test_pytest_functions(self, check):
        tests = (
            "import pytest\nfrom solution import add\n"
            "@pytest.mark.parametrize('a, b, c', [(1, 2, 3), (0.1, 0.2, 0.3)])\n"
            "def test_add(a, b, c):\n    assert add(a, b) == pytest.approx(c)\n"
            "def test_error():\n    with pytest.raises(TypeError):\n        add(1, 'x')\n"
        )
        assert check(ADD, tests).passed
        assert not check("def add(a, b):\n    return 3", tests).passed

    def test_check_function_with_an_entry_point(self, check):
        tests = "def check(candidate):\n    assert candidate(1, 2) == 3\n"
        assert check(ADD, tests, entry_point="add").passed
        assert not check(ADD.replace("+", "*"), tests, entry_point="add").passed

    def test_classes_generators_exceptions_and_mutation(self, check):
        code = (
            "class Stack:\n    def __init__(self): self.items = []\n    def push(self, x): self.items.append(x); return self\n"
            "    def __len__(self): return len(self.items)\n"
            "class Empty(ValueError): pass\n"
            "def pop(s):\n    if not len(s): raise Empty('no items')\n    return s.items.pop()\n"
            "def count():\n    i = 0\n    while True:\n        yield i\n        i += 1\n"
            "def sort(xs): xs.sort()\nLIMIT = 3\n"
        )
        tests = (
            "from itertools import islice\n"
            "s = Stack().push(1).push(2)\nassert len(s) == 2 and pop(s) == 2 and s.items == [1]\n"
            "try:\n    pop(Stack())\n    assert False\nexcept Empty as e:\n    assert str(e) == 'no items'\n"
            "assert list(islice(count(), 3)) == [0, 1, 2]\n"
            "xs = [3, 1, 2]\nsort(xs)\nassert xs == [1, 2, 3]\nassert LIMIT == 3\n"
        )
        report = check(code, tests)
        assert report.passed, report.feedback

    def test_values_keep_their_kind(self, check):
        code = "def same(x): return x"
        values = "[None, True, 1, 2**80, -1.5, float('inf'), 'é\\ud800', b'\\x00', (1,), {2}, frozenset({3}), {(1, 2): [3]}, 1j]"
        tests = f"for v in {values}:\n    r = same(v)\n    assert r == v and type(r) is type(v)\n"
        report = check(code, tests)
        assert report.passed, report.feedback

    def test_programs_that_read_and_print(self, sandbox):
        verifier = CodeVerifier(sandbox, checks=("syntax",), io_pairs=[("1 2\n", "3"), ("4 5\n", "9\n")])
        assert verifier.verify("a, b = map(int, input().split())\nprint(a + b, ' ')").passed
        report = verifier.verify("print(3)")
        assert "'4 5\\n'" in report.feedback
        assert (
            "time limit"
            in CodeVerifier(sandbox, checks=("syntax",), io_pairs=[("", "")], timeout=1)
            .verify("while True: pass")
            .feedback
        )


def test_the_next_check_is_unaffected_by_the_last(check):
    left = f"{WORKDIR}/left"
    check(f"import os\nopen({left!r}, 'w').write('x')\nos.fork()\ndef add(a, b):\n    return 0")
    assert check(f"import os\nassert not os.path.exists({left!r})\n" + ADD).passed


def test_an_empty_answer_runs_nothing(sandbox):
    assert CodeVerifier(sandbox).verify("  ").failure.check == "code"


@pytest.mark.parametrize(
    ("options", "message"), [({"checks": ("sintax",)}, "sintax"), ({"tests": "assert ("}, "do not compile")]
)
def test_what_cannot_work_is_refused_before_anything_runs(options, message):
    with pytest.raises(ValueError, match=message):
        CodeVerifier(None, **options)


@pytest.mark.parametrize("number", [15, 11, 1])
def test_who_ends_the_judge_has_failed_and_the_walk_goes_on(sandbox, number):
    ends = f"import os\nos.kill(os.getppid(), {number})\ndef add(a, b):\n    return a + b\n"
    report = CodeVerifier(sandbox, tests=TESTS).verify(ends)
    assert report.failure.check == "limits"
    assert "ended the process that checks it" in report.feedback


def test_a_sandbox_that_broke_is_not_the_programs_fault(sandbox):
    class Broken:
        def run_python(self, code, **options):
            return sandbox.run_python("raise KeyError(1)")

    with pytest.raises(SandboxFailureError, match="KeyError"):
        CodeVerifier(Broken(), tests=TESTS).verify(ADD)


def test_an_answer_of_100_mb_is_refused_at_once(sandbox):
    verifier = CodeVerifier(sandbox)
    answer = "#" * (100 << 20)
    assert "at most 262,144 are checked" in verifier.verify(answer).feedback
    assert len(verifier.fingerprint(answer)) == 64
