"""What an error says."""

import pytest

from nad_agents.exceptions import NADError


def one_line(error: pytest.ExceptionInfo[NADError]) -> str:
    """The message of an error, which has to be one line."""
    text = str(error.value)
    assert "\n" not in text
    return text
