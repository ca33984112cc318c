"""How many characters a regular expression needs, and how many one choice in it may ask for."""

import pytest

from nad_agents.constrained.regex_width import pattern_widths


@pytest.mark.parametrize(
    ("pattern", "least", "more"),
    [
        ("[a-z]{20,}", 20, 1),
        ("(a{50}|b)c", 2, 49),
        ("(?:x(abc)?)*", 0, 3),
        ("a|b", 1, 0),
        ("(", 0, 0),
        ("x{99999}", 1000, 0),
    ],
)
def test_the_widths_of_a_pattern(pattern, least, more):
    assert pattern_widths(pattern) == (least, more)
