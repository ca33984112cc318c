"""The queue before the engine: bounded, fair between clients, nobody overtaken, no row idle."""

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
        self._keep = {}

    async def come(self, name, client="a", rows=4):
        self._leave[name] = asyncio.Event()

        async def request():
            async with self.admission.place(client, rows) as self._keep[name]:
                self.admitted.append(name)
                await self._leave[name].wait()

        self._tasks[name] = asyncio.create_task(request())
        await asyncio.sleep(0)
        return self._tasks[name]

    async def shrink(self, name, rows):
        self._keep[name](rows)
        await asyncio.sleep(0)

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


async def test_rows_that_come_back_go_to_who_waits_in_turn(clients):
    await clients.come("first", rows=8)
    await clients.come("a", "a", rows=3)
    await clients.come("b", "b", rows=2)
    await clients.shrink("first", 6)
    # b would fit, but is not next
    assert clients.admitted == ["first"]
    await clients.shrink("first", 4)
    assert clients.admitted == ["first", "a"]
    await clients.shrink("a", 1)
    assert clients.admitted == ["first", "a", "b"]
    assert (clients.admission.held, clients.admission.running) == (7, 3)


async def test_a_large_request_gets_its_turn_though_small_ones_keep_coming(clients):
    for name in ("p", "q"):
        await clients.come(name, "small", rows=4)
    await clients.come("large", "b", rows=8)
    for name, after in (("r", "p"), ("s", "q")):
        await clients.come(name, "small", rows=1)
        await clients.shrink(after, 0)
    assert clients.admitted == ["p", "q", "large"]


async def test_who_only_has_its_candidates_checked_holds_no_rows_but_counts(clients):
    for i in range(8):
        await clients.come(i, rows=8)
        await clients.shrink(i, 0)
    assert clients.admitted == list(range(8))
    assert clients.admission.held == 0
    # as many as there are rows: more would be more work than is ever finished
    await clients.come("ninth", rows=1)
    assert "ninth" not in clients.admitted
    await clients.go(3)
    assert "ninth" in clients.admitted


async def test_late_word_of_rows_changes_nothing(clients):
    await clients.come("first", rows=4)
    await clients.shrink("first", 2)
    await clients.shrink("first", 3)
    assert clients.admission.held == 2
    await clients.go("first")
    await clients.come("second", rows=8)
    await clients.shrink("first", 0)
    assert clients.admission.held == 8


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


@pytest.mark.parametrize("shut_down", [False, True], ids=["the server runs", "the server shuts down"])
def test_requests_of_a_loop_that_was_closed_end_without_an_error(shut_down):
    admission = Admission(rows=8, max_waiting=3)

    async def request():
        async with admission.place("a", 8):
            await asyncio.Event().wait()

    async def come():
        tasks = [asyncio.create_task(request()) for _ in range(3)]
        await asyncio.sleep(0)
        return tasks

    loop = asyncio.new_event_loop()
    running, *waiting = loop.run_until_complete(come())
    assert (admission.running, admission.waiting) == (1, 2)
    loop.close()
    if shut_down:
        admission.close()
    # what the garbage collector does with the coroutine of a task that nobody holds any more
    running.get_coro().close()
    assert (admission.running, admission.waiting) == (0, 0)
    for task in waiting:
        task.get_coro().close()
    assert (admission.running, admission.waiting) == (0, 0)
