"""The queue before the engine: bounded, fair between clients, nobody overtaken."""

import asyncio

import pytest
from nad_server.admission import Admission
from nad_server.errors import APIError


class Clients:
    """Requests that note when they got in, and stay until told to go."""

    def __init__(self, admission):
        self.admission = admission
        self.admitted = []
        self._tasks = {}
        self._leave = {}

    async def come(self, name, client="a", rows=4):
        self._leave[name] = asyncio.Event()

        async def request():
            async with self.admission.place(client, rows):
                self.admitted.append(name)
                await self._leave[name].wait()

        self._tasks[name] = asyncio.create_task(request())
        await asyncio.sleep(0)
        return self._tasks[name]

    async def go(self, name):
        self._leave[name].set()
        await self._tasks[name]
        await asyncio.sleep(0)

    async def vanish(self, name):
        self._tasks[name].cancel()
        await asyncio.wait([self._tasks[name]])
        await asyncio.sleep(0)


@pytest.fixture
def clients():
    return Clients(Admission(rows=8, max_waiting=3))


async def test_as_many_run_as_there_are_rows_for(clients):
    for name in "pqr":
        await clients.come(name)
    assert clients.admitted == ["p", "q"]
    assert (clients.admission.running, clients.admission.waiting) == (2, 1)
    await clients.go("p")
    assert clients.admitted == ["p", "q", "r"]


async def test_clients_take_turns(clients):
    await clients.come("first", rows=8)
    for name in ("a1", "a2"):
        await clients.come(name, "a", rows=8)
    await clients.come("b1", "b", rows=8)
    for name in ("first", "a1", "b1", "a2"):
        await clients.go(name)
    assert clients.admitted == ["first", "a1", "b1", "a2"]


async def test_a_large_request_is_not_overtaken_and_gets_its_turn(clients):
    await clients.come("small", "a", rows=4)
    await clients.come("large", "b", rows=100)
    await clients.come("late", "c", rows=1)
    assert clients.admitted == ["small"]
    await clients.go("small")
    assert clients.admitted == ["small", "large"]
    await clients.go("large")
    assert clients.admitted == ["small", "large", "late"]


async def test_too_many_are_sent_away_with_a_time(clients):
    await clients.come("running", rows=8)
    for name in "pqr":
        await clients.come(name)
    with pytest.raises(APIError) as refused:
        clients.admission.check()
    assert refused.value.status == 429
    assert int(refused.value.headers["Retry-After"]) >= 1
    with pytest.raises(APIError):
        await (await clients.come("s"))
    assert clients.admission.waiting == 3


async def test_who_vanishes_leaves_no_trace(clients):
    await clients.come("running", rows=8)
    await clients.come("waiting", "b")
    await clients.vanish("waiting")
    assert clients.admission.waiting == 0
    await clients.come("next", "c")
    await clients.vanish("running")
    assert clients.admitted == ["running", "next"]
    await clients.vanish("next")
    assert clients.admission.running == 0


async def test_who_vanishes_at_the_moment_of_admission_holds_nothing(clients):
    await clients.come("running", rows=8)
    waiting = await clients.come("waiting", "b", rows=8)
    waiting.cancel()
    await clients.go("running")
    assert (clients.admission.running, clients.admission.waiting) == (0, 0)
    await clients.come("next", rows=8)
    assert clients.admitted == ["running", "next"]


async def test_closing_sends_away_who_waits_and_keeps_who_runs(clients):
    await clients.come("running", rows=8)
    waiting = await clients.come("waiting", "b")
    clients.admission.close()
    with pytest.raises(APIError) as refused:
        await waiting
    assert refused.value.status == 503
    with pytest.raises(APIError):
        clients.admission.check()
    await clients.go("running")
    assert clients.admission.running == 0
