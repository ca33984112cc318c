"""Another library's error on one line."""

from nad_agents.models.error_text import one_line_error


def test_the_first_line_of_an_error():
    assert one_line_error(ValueError("\n\n  a  \nb")) == "a"
    assert one_line_error(ValueError()) == "ValueError"
    assert len(one_line_error(ValueError("x" * 999))) == 200
