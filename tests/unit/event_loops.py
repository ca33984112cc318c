"""Looking at the event loop and at the engine behind it."""

import asyncio
import threading
import time
from contextlib import asynccontextmanager, contextmanager

import pytest


@contextmanager
def held_in_step(decoder, number):
    """Hold the engine in its step of this number until the block ends, and give the list of steps that were begun.

    So a request that is left within the block is left before its generation ends, however busy the machine is.
    """
    begun, go_on, step = [], threading.Event(), decoder.engine.step

    def held(tokens):
        begun.append(tokens)
        if len(begun) == number:
            assert go_on.wait(60)
        step(tokens)

    decoder.engine.step = held
    try:
        yield begun
    finally:
        go_on.set()


async def until_idle(decoder, begun, number):
    """Wait for the rows to be free, which they are after the step of this number at the latest."""
    await asyncio.to_thread(wait_until_idle, decoder, begun, number)


def wait_until_idle(decoder, begun, number):
    """The same without an event loop."""
    deadline = time.monotonic() + 60
    while decoder.engine.rows:
        assert time.monotonic() < deadline, f"{decoder.engine.rows} rows still generate"
        threading.Event().wait(0.01)
    assert len(begun) <= number


async def check_that_cancelling_ends(decoder, call):
    """Cancel the task of a call whose generation is in its first step: the task ends, and the rows become free."""
    with held_in_step(decoder, 1) as begun:
        task = asyncio.create_task(call)
        while not begun:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await until_idle(decoder, begun, 1)


@asynccontextmanager
async def a_free_loop():
    """Fails when something on the loop computed for a quarter of a second, or another task hardly ever had its turn.

    Calls that wait are found by `blocking_is_an_error`. The time is that of this thread, which other processes do not
    change.
    """
    ticks, longest = 0, 0.0

    async def tick():
        nonlocal ticks, longest
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.001)
            longest = max(longest, time.thread_time() - before)
            ticks += 1

    ticking = asyncio.create_task(tick())
    yield
    ticking.cancel()
    assert ticks > 20
    assert longest < 0.25
