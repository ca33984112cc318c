"""What ends a request early, and with which error."""

import threading

import pytest

from nad_agents.engine.scheduled_request import Cancellation
from nad_agents.exceptions import GenerationCancelledError, GenerationTimeoutError


def test_a_caller_cancels():
    for cancellation in (Cancellation(), Cancellation(60)):
        assert not cancellation.cancelled
        cancellation.cancel()
        assert (cancellation.cancelled, cancellation.timed_out) == (True, False)
        assert type(cancellation.error()) is GenerationCancelledError


def test_a_deadline_passes():
    cancellation = Cancellation(0.01)
    while not cancellation.cancelled:
        threading.Event().wait(0.005)
    assert cancellation.timed_out
    with pytest.raises(GenerationTimeoutError, match=r"timeout=0\.01 "):
        raise cancellation.error()
