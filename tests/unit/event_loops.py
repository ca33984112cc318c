"""Looking at the event loop and at the engine behind it."""

import asyncio
import time
from contextlib import asynccontextmanager


async def until_idle(decoder, seconds=5.0):
    deadline = time.monotonic() + seconds
    while decoder.engine.rows:
        assert time.monotonic() < deadline, f"{decoder.engine.rows} rows still generate"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def a_free_loop():
    """Fails when something else on the loop waited for half a second, or hardly ever had its turn."""
    ticks, longest = 0, 0.0

    async def tick():
        nonlocal ticks, longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            longest = max(longest, time.perf_counter() - before)
            ticks += 1

    ticking = asyncio.create_task(tick())
    yield
    ticking.cancel()
    assert ticks > 20
    assert longest < 0.5
