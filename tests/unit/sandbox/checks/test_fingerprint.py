"""The normal form of programs: what is equal, what is not, and what cannot be parsed."""

import pytest
from nad_sandbox.checks.fingerprint import normalize_program

ADD = "def add(a, b):\n    return a + b\n"


def test_programs_that_differ_in_form_alone_are_equal():
    other = "# adds\ndef add( a,b ):\n    '''Add.'''\n    return (a+b)"
    assert normalize_program(ADD) == normalize_program(other)
    assert normalize_program(ADD) != normalize_program(ADD.replace("+", "-"))
    assert normalize_program("def f(:  \n  x ") == "def f(:\n  x"


@pytest.mark.parametrize(
    "code",
    [
        "x = " + "(" * 5000 + ")" * 5000,
        "x = 1" + " + 1" * 1500,
        "x = 1" + " + 1" * 9000,
        "x" + ".a" * 9000,
        "x = 1\0",
        "x = '\ud800",
    ],
    ids=["brackets", "1,500 terms", "9,000 terms", "attributes", "NUL", "surrogate"],
)
def test_what_is_too_deep_or_no_text_is_its_own_form(code):
    assert normalize_program(f"{code}  \n") == normalize_program(code)
