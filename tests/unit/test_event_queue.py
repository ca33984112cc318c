"""Events between threads: in order, up to an end; of snapshots the latest alone."""

import asyncio
import threading

from nad_agents.event_queue import EventQueue, Snapshot
from nad_agents.events import Compared, TextDelta
from nad_agents.neurons.comparison import ComparisonConfig
from tests.unit.builders import group_of_sets


def snapshot(tokens):
    return Snapshot(group_of_sets([1, 2], [2, 3]), tokens, ComparisonConfig())


async def read(events, *, asynchronous):
    if asynchronous:
        return [event async for event in events.auntil_end()]
    return await asyncio.to_thread(lambda: list(events.until_end()))


async def test_two_ends_make_two_parts():
    for asynchronous in (False, True):
        events = EventQueue()
        for text in ("a", "b"):
            events.put(TextDelta(text))
            events.end()
        assert await read(events, asynchronous=asynchronous) == [TextDelta("a")]
        assert await read(events, asynchronous=asynchronous) == [TextDelta("b")]


async def test_of_snapshots_that_nobody_read_the_latest_is_compared():
    for asynchronous in (False, True):
        events = EventQueue()
        for tokens in (8, 16, 24):
            events.put_snapshot(snapshot(tokens))
        events.put(TextDelta("end"))
        events.end()
        compared, last = await read(events, asynchronous=asynchronous)
        assert compared == Compared(24, ((1.0, 1 / 3), (1 / 3, 1.0)), (2, 2))
        assert last == TextDelta("end")


async def test_a_waiting_event_loop_is_woken_by_another_thread():
    events = EventQueue()
    reader = asyncio.create_task(read(events, asynchronous=True))
    await asyncio.sleep(0)

    def write():
        events.put(TextDelta("a"))
        events.end()

    thread = threading.Thread(target=write)
    thread.start()
    assert await asyncio.wait_for(reader, 20) == [TextDelta("a")]
    thread.join()


async def test_events_after_the_loop_has_gone_disturb_nobody():
    events = EventQueue()

    async def leave():
        return await anext(events.auntil_end())

    events.put(TextDelta("a"))
    assert await asyncio.to_thread(asyncio.run, leave()) == TextDelta("a")
    events.put(TextDelta("b"))
    events.end()
    assert await read(events, asynchronous=False) == [TextDelta("b")]
