"""Tests that cannot be run are refused before any program has run, and for no program's sake."""

import pytest
from nad_sandbox import BubblewrapSandbox, CodeVerifier, Limits
from nad_sandbox.checks.verifier import UnsupportedTestsError

ADD = "def add(a, b):\n    return a + b\n"

UNSUPPORTED = {
    "import nothing_like_this\ndef test_x(): assert add(1, 1) == 2": "import 'nothing_like_this', which is not in the sandbox",
    "import pytest\nx = pytest.importorskip('nothing_like_this')\ndef test_x(): assert add(1, 1) == 2": "'nothing_like_this'",
    "def test_x(unknown): assert unknown": "fixture 'unknown'",
    "import pytest\npytest.skip('not here', allow_module_level=True)\ndef test_x(): assert add(1, 1) == 2": "leave themselves out",
    "class Nothing: pass": "check nothing",
    "import pytest\n@pytest.mark.skip\ndef test_x(): assert add(1, 1) == 2": "leave themselves out",
}


@pytest.fixture(scope="module")
def sandbox():
    with BubblewrapSandbox(limits=Limits(timeout=20)) as made:
        yield made


@pytest.mark.parametrize("tests", UNSUPPORTED)
@pytest.mark.parametrize("program", [ADD, "import os\nos._exit(0)", "def add(a, b) return"])
def test_no_program_is_blamed_for_tests_that_cannot_be_run(sandbox, tests, program):
    with pytest.raises(UnsupportedTestsError, match=UNSUPPORTED[tests]):
        CodeVerifier(sandbox, tests=tests).verify(program)


@pytest.mark.parametrize(
    "program", ["import nothing_like_this", "raise ImportError('pytest')", "import sys\nsys.modules['pytest'] = None"]
)
def test_a_program_cannot_make_its_tests_unsupported(sandbox, program):
    tests = "import pytest\ndef test_x(capsys): assert add(1, 1) == 2"
    assert not CodeVerifier(sandbox, tests=tests).verify(program).passed


def test_a_name_that_the_program_lacks_is_its_own_failure(sandbox):
    assert (
        not CodeVerifier(sandbox, tests="from solution import subtract\nassert subtract(1, 1) == 0").verify(ADD).passed
    )


def test_one_that_is_expected_to_fail_strictly_must(sandbox):
    tests = "import pytest\n@pytest.mark.xfail(strict=True)\ndef test_x(): assert add(1, 1) == 2"
    assert "XPASS" in CodeVerifier(sandbox, tests=tests).verify(ADD).feedback


def test_an_interactive_session_is_tests_too(sandbox):
    verifier = CodeVerifier(sandbox, tests=">>> add(1, 2)\n3\n>>> add('a', 'b')\n'ab'\n")
    assert verifier.verify(ADD).passed
    assert "Expected:\n    3\nGot:\n    -1" in verifier.verify(ADD.replace("+", "-")).feedback


def test_separate_trust_can_be_demanded(sandbox):
    plain = CodeVerifier(sandbox, tests="assert add(1, 2) == 3", require_trust="separate")
    assert plain.verify(ADD).trust == "separate"
    opaque = plain.verify("import decimal\ndef add(a, b):\n    return decimal.Decimal(a + b)\n")
    assert not opaque.passed
    assert "returns Decimal, which is no plain data" in opaque.feedback
    with pytest.raises(UnsupportedTestsError, match="cannot be judged in a separate process"):
        CodeVerifier(sandbox, tests="def test_x(tmp_path): assert add(1, 2) == 3", require_trust="separate")


def test_a_program_that_looks_into_the_interpreter_needs_the_second_judge(sandbox):
    program = "import sys\ndef add(a, b):\n    sys._getframe(1).f_locals\n    return a + b\n"
    assert CodeVerifier(sandbox, tests="assert add(1, 2) == 3").verify(program).trust == "separate"
    report = CodeVerifier(sandbox, tests="def test_x(tmp_path): assert add(1, 2) == 3").verify(program)
    assert "reaches into the interpreter" in report.feedback


@pytest.mark.parametrize(
    "tests",
    ["def check(candidate):\n    assert candidate(1) == 2", "METADATA = {}\n\ndef check(candidate):\n    assert True"],
)
def test_a_check_that_nothing_calls_is_refused(tests):
    with pytest.raises(ValueError, match="name the entry_point"):
        CodeVerifier(None, tests=tests)
    CodeVerifier(None, tests=tests, entry_point="add")
    CodeVerifier(None, tests=tests + "\ncheck(add)")
