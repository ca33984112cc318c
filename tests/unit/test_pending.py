"""Waiting for a request: deadlines, cancelling, leaving early."""

import asyncio
import threading

import pytest

from nad_agents import (
    ConfigurationError,
    Finished,
    GenerationCancelledError,
    GenerationTimeoutError,
    TextDelta,
    VerificationConfig,
    WinnerChosen,
)
from nad_agents.pending import submit_in_thread
from nad_agents.testing import AcceptingVerifier
from tests.unit.decoders import SAMPLING, decoder


def test_cancelling_a_pending_request_raises_for_its_caller():
    nad = decoder(sampling=SAMPLING.model_copy(update={"max_new_tokens": 450}))
    pending = nad.submit(["hello"])[0]
    pending.cancel()
    with pytest.raises(GenerationCancelledError):
        pending.result()


class TestTimeout:
    LONG = SAMPLING.model_copy(update={"max_new_tokens": 450, "n": 16})

    @pytest.mark.parametrize("wave", [None, 2])
    def test_whoever_waits_hears_of_it_and_the_rows_are_free(self, wave):
        nad = decoder(sampling=self.LONG.model_copy(update={"wave": wave}))
        with pytest.raises(GenerationTimeoutError, match=r"timeout=0\.05 "):
            nad.submit(["hello"], timeout=0.05)[0].result()
        with pytest.raises(GenerationTimeoutError):
            list(nad.submit(["hello"], timeout=0.05, streaming=True)[0].events())
        assert nad.engine.rows == 0
        assert nad.submit(["hello"], sampling=SAMPLING, timeout=60)[0].result().text

    def test_it_ends_the_checks_as_well_and_a_cancelled_request_has_not_timed_out(self):
        class Slow(AcceptingVerifier):
            def verify(self, answer, *, prompt=""):
                pending._scheduled.cancellation._deadline = 0.0  # as if the time were up
                return super().verify(answer, prompt=prompt)

        judge = Slow()
        short = SAMPLING.model_copy(update={"max_new_tokens": 4})
        one_by_one = {"sampling": short, "verifier": judge, "verification": VerificationConfig(parallel=1)}
        pending = decoder().submit(["hello"], timeout=60, **one_by_one)[0]
        with pytest.raises(GenerationTimeoutError):
            pending.result()
        assert len(judge.calls) == 1
        pending = decoder().submit(["hello"], timeout=60, **one_by_one)[0]
        pending.cancel()
        with pytest.raises(GenerationCancelledError) as caught:
            pending.result()
        assert not isinstance(caught.value, GenerationTimeoutError)


def test_cancelling_while_candidates_are_checked_starts_no_further_check():
    class Slow(AcceptingVerifier):
        def verify(self, answer, *, prompt=""):
            pending.cancel()
            return super().verify(answer, prompt=prompt)

    judge = Slow()
    one_by_one = VerificationConfig(parallel=1)
    pending = decoder().submit(["hello"], verifier=judge, verification=one_by_one)[0]
    with pytest.raises(GenerationCancelledError):
        pending.result()
    assert len(judge.calls) == 1


@pytest.mark.parametrize("timeout", [0, -1.5])
def test_a_timeout_that_leaves_no_time_is_refused(timeout):
    with pytest.raises(ConfigurationError, match=f"timeout={timeout} "):
        decoder().submit(["hello"], timeout=timeout)


def test_cancelling_has_no_effect_on_finished_candidates():
    pending = decoder().submit(["hello"])[0]
    group = pending.outcome().group
    pending.cancel()
    assert pending.cancelled
    assert [c.text for c in pending.result().candidates] == [r.text for r in group.rollouts]


def test_without_streaming_there_are_the_events_of_the_end():
    pending = decoder().submit(["hello"])[0]
    assert [type(event) for event in pending.events()] == [WinnerChosen, TextDelta, Finished]


class Submitted:
    def __init__(self):
        self.cancelled = threading.Event()

    def cancel(self):
        self.cancelled.set()


async def test_what_is_submitted_after_its_caller_has_gone_is_cancelled():
    started, go, submitted = threading.Event(), threading.Event(), Submitted()

    def submit():
        started.set()
        assert go.wait(20)
        return submitted

    task = asyncio.create_task(submit_in_thread(submit))
    assert await asyncio.to_thread(started.wait, 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not submitted.cancelled.is_set()
    go.set()
    assert await asyncio.to_thread(submitted.cancelled.wait, 20)


async def test_an_error_while_submitting_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        await submit_in_thread(lambda: 1 / 0)
