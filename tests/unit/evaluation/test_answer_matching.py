"""Final answers: how they are read out of a text, and which count as the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nad_agents.evaluation.answer_matching import canonical_answers, final_answer, same_answer


@pytest.mark.parametrize(
    ("text", "expected", "found"),
    [
        (r"6 times 7 is \boxed{42}.", "42", "42"),
        ("first 41, then 42.", "42", "42"),
        (r"\boxed{42.0}", "42", "42"),
        (r"\boxed{\$1,200}", "1200", "1200"),
        (r"\boxed{5\text{ cm}}", "5", "5"),
        (r"\boxed{x = 4}", "4", "4"),
        (r"\boxed{1} and later \boxed{2}", "2", "2"),
        ("no number at all", "42", None),
        ("it is x + 1", "x+1", None),
        (r"\boxed{x + 1}", "x+1", "x+1"),
        (r"\boxed{B}", "B", "B"),
        (r"\boxed{\text{(B) 42}}", "B", "B"),
        (r"\boxed{b}", "B", "B"),
        ("Hence the answer is (C).", "B", "C"),
        ("answer is A? No: the final answer is **D**", "D", "D"),
        (r"\boxed{apple}", "A", None),
        ("A good question", "A", None),
    ],
)
def test_final_answers(text, expected, found):
    assert final_answer(text, expected) == found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0.5", r"\frac{1}{2}"),
        ("1/2", r"\dfrac12"),
        ("-3/6", r"-\tfrac{1}{2}"),
        ("1,000", "1000"),
        (r"50\%", "50"),
        ("$7$", "7.00"),
        (".5", "0.5"),
        (r"90^\circ", "90"),
        (r"\left( 1, 2 \right)", "(1,2)"),
        (r"\text{Monday}", "monday"),
        (r"x^2 + 1", "x^2+1"),
    ],
)
def test_answers_that_are_the_same(one, other):
    assert same_answer(one, other)
    assert same_answer(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [("1", "2"), ("1/2", "2/1"), ("-1", "1"), ("(1,2)", "12"), ("1/0", "1"), ("x+1", "x-1"), ("12", "1/2"), ("", "0")],
)
def test_answers_that_differ(one, other):
    assert not same_answer(one, other)


@given(st.integers(-(10**6), 10**6), st.integers(1, 999))
def test_a_fraction_is_the_same_however_it_is_written(top, bottom):
    sign = "-" if top < 0 else ""
    forms = [f"{top}/{bottom}", f"{sign}\\frac{{{abs(top)}}}{{{bottom}}}", f"${3 * top}/{3 * bottom}$"]
    assert all(same_answer(a, b) for a in forms for b in forms)
    assert not same_answer(forms[0], f"{top + 1}/{bottom}")


def test_answers_count_as_one_when_they_are_the_same():
    found = canonical_answers(["a", "b", "c", "d"], ["1/2", "0.5", None, "3"])
    assert found["a"] == found["b"]
    assert (found["c"], found["d"]) == (None, "3")
