"""An answer without code fails the check for code, whatever its words mean to Python, and nothing is run."""

import pytest
from nad_sandbox import CodeVerifier
from nad_sandbox.checks.code_extraction.program_facts import is_idle
from nad_sandbox.checks.report import Report


@pytest.mark.parametrize(
    "answer",
    [
        "42",
        "Yes",
        "not True",
        "...",
        "pass",
        "'Hello.'",
        "# no idea",
        "x",
        "(1, 2)",
        "```python\n# to do\n```",
        "1 + 1",
    ],
)
def test_words_that_parse_are_no_code(answer):
    report = CodeVerifier(None).verify(answer)
    assert (report.passed, report.failure.check, report.code) == (False, "code", "")
    assert "holds no code" in report.feedback


@pytest.mark.parametrize(
    "code",
    [
        "print(1)",
        "x = 1",
        "x: int = 1",
        "import os",
        "def f(): pass",
        "lambda x: x",
        "[i for i in (1, 2)]",
        "f()",
        "(",
        "y := 1",
    ],
)
def test_code_is_code_and_what_does_not_parse_is_for_the_syntax_check(code):
    assert not is_idle(code)


def test_a_report_hands_on_the_program_that_was_checked():
    assert Report(True, (), code="x = 1").to_dict()["code"] == "x = 1"
    assert "code" not in Report(False, ()).to_dict()
