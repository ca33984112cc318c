"""The mark that ends a stream, however it is cut into pieces, and what is kept before it."""

import pytest
from nad_sandbox.process.marked_output import MarkedOutput

MARK = b"0123456789abcdef"


@pytest.mark.parametrize(("told", "goes_on"), [(b"137-", False), (b"137+", True), (b"137!", True)])
@pytest.mark.parametrize("size", [1, 2, 7, 16, 100])
@pytest.mark.parametrize("text", [b"", b"some output", b"almost 0123456789abcde, and not", MARK[:-1] * 3])
def test_the_status_is_told_and_the_mark_is_no_output(text, size, told, goes_on):
    whole = text + MARK + told + b"what comes after"
    output = MarkedOutput(1000, MARK)
    for at in range(0, len(whole), size):
        output.write(whole[at : at + size])
    assert (output.status, output.goes_on, output.oom_killed) == (137, goes_on, told == b"137!")
    assert output.text() == text.decode()


def test_without_a_mark_there_is_no_status_and_everything_is_output():
    output = MarkedOutput(1000, MARK)
    output.write(b"text " + MARK[:5])
    assert output.status is None
    assert output.text() == "text 01234"


def test_more_than_the_limit_is_counted_and_dropped():
    output = MarkedOutput(10, MARK)
    output.write(b"x" * 1000 + MARK + b"000-")
    assert output.truncated
    assert (output.status, output.text().count("x")) == (0, 10)


def test_a_forged_mark_is_a_failure():
    output = MarkedOutput(10, MARK)
    output.write(MARK + b"no status")
    assert output.status == 1
