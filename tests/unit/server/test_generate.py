"""Whose rows are whose: who waits, who leaves, who is stopped."""

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from nad_agents.testing import AcceptingVerifier
from tests.unit.server.servers import CHAT, call, counted, endless_model, http, make_app, until

PATH = "/v1/chat/completions"
LONG = {**CHAT, "max_tokens": 3000, "stop": None}


@pytest.fixture
def app():
    return make_app(keep_alive_seconds=0.01, max_rows=4, max_waiting=1)


class Blocks(AcceptingVerifier):
    def __init__(self):
        super().__init__()
        self.asked, self.go_on = threading.Event(), threading.Event()

    def verify(self, answer, *, prompt=""):
        self.asked.set()
        assert self.go_on.wait(20)
        return super().verify(answer, prompt=prompt)


class HeldEngine:
    """Stops the engine at the end of a step, until it may go on."""

    def __init__(self, engine, monkeypatch, after):
        self.reached, self.go_on = threading.Event(), threading.Event()
        advance, steps = engine.step, []

        def step(max_tokens):
            advance(max_tokens)
            steps.append(max_tokens)
            if len(steps) == after:
                self.reached.set()
                assert self.go_on.wait(20)

        monkeypatch.setattr(engine, "step", step)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("pruning", ["never", "first_chunk"])
async def test_a_client_that_leaves_frees_its_rows_within_the_chunk(monkeypatch, stream, pruning):
    app = make_app(model=endless_model(), keep_alive_seconds=0.01, max_rows=4)
    decoder, leave = app.state.server.decoder, asyncio.Event()
    held = HeldEngine(decoder.engine, monkeypatch, after=3)
    asking = asyncio.create_task(call(app, {**LONG, "stream": stream, "nad": {"pruning": pruning}}, leave))
    await until(held.reached.is_set)
    leave.set()
    sent = await asking
    assert (decoder.steps, decoder.engine.rows > 0) == (3, True)
    held.go_on.set()
    await until(lambda: decoder.engine.rows == 0)
    assert decoder.steps == 3
    assert app.state.server.admission.running == 0
    assert bool(sent) is stream
    assert await counted(app, "nad_disconnects_total") == 1
    assert await counted(app, "nad_batch_rows") == 0
    assert await counted(app, "nad_batch_steps") == 3


@pytest.fixture
def no_garbage_collection():
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage_collection")
async def test_a_client_that_stops_reading_and_leaves_frees_its_rows():
    app, leave, sent = make_app(model=endless_model(), max_rows=4, keep_alive_seconds=0.001), asyncio.Event(), []
    asking = asyncio.create_task(call(app, {**LONG, "stream": True}, leave, sent=sent, reads=4))
    await until(lambda: len(sent) == 4 and app.state.server.decoder.engine.rows == 4)
    leave.set()
    await asking
    assert len(sent) == 4
    await until(lambda: app.state.server.decoder.engine.rows == 0)
    assert app.state.server.admission.running == 0


async def test_who_waits_gets_pings_and_the_next_one_429(app):
    leave = asyncio.Event()
    first = asyncio.create_task(call(app, LONG, leave))
    await until(lambda: app.state.server.admission.running == 1)
    second = asyncio.create_task(call(app, {**CHAT, "stream": True}, asyncio.Event()))
    await until(lambda: app.state.server.admission.waiting == 1)
    # the first prompt has been read once its candidates are in the batch
    await until(lambda: app.state.server.decoder.engine.rows > 0)
    async with http(app) as wire:
        for stream in (False, True):
            refused = await wire.post(PATH, json={**CHAT, "stream": stream})
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
        counts = {"running": 1, "waiting": 1, "prompt_tokens_left": 0}
        assert (await wire.get("/health")).json() == {"status": "ok", **counts}
    await asyncio.sleep(0.05)
    leave.set()
    await first
    body = b"".join(message.get("body", b"") for message in await second).decode()
    assert ": ping" in body
    assert body.endswith("data: [DONE]\n\n")


async def test_rows_of_dropped_candidates_go_to_who_waits_while_the_first_still_runs():
    app, leave = make_app(model=endless_model(), max_rows=4), asyncio.Event()
    first = asyncio.create_task(call(app, {**LONG, "nad": {"pruning": "first_chunk"}}, leave))
    await until(lambda: app.state.server.admission.running == 1)
    async with http(app) as wire:
        second = await wire.post(PATH, json={**CHAT, "nad": {"n": 3}})
        assert second.json()["nad"]["n"] == 3
        assert app.state.server.admission.running == 1
        assert app.state.server.admission.held == 1
    assert not first.done()
    leave.set()
    await first
    assert app.state.server.admission.held == 0


async def test_a_request_whose_candidates_are_checked_leaves_the_batch_to_others():
    verifier = Blocks()
    app = make_app(verifier=verifier, max_rows=4)
    async with http(app) as wire:
        first = asyncio.create_task(wire.post(PATH, json=CHAT))
        await until(verifier.asked.is_set)
        second = await wire.post(PATH, json={**CHAT, "nad": {"verify": False}})
        assert second.status_code == 200
        assert not first.done()
        verifier.go_on.set()
        assert "verification" in (await first).json()["nad"]


async def test_slow_checks_do_not_keep_others_out_of_the_batch():
    verifier, leave = Blocks(), asyncio.Event()
    app = make_app(verifier=verifier, max_rows=4)
    # the thread on which checks are waited for
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    async with http(app) as wire:
        first = asyncio.create_task(wire.post(PATH, json=CHAT))
        await until(verifier.asked.is_set)
        second = asyncio.create_task(call(app, {**LONG, "nad": {"verify": False}}, leave))
        await until(lambda: app.state.server.decoder.engine.rows > 0)
        leave.set()
        await second
        verifier.go_on.set()
        await first


@pytest.mark.parametrize("stream", [False, True])
async def test_stopping_ends_a_request_that_is_being_checked(stream):
    verifier = Blocks()
    app = make_app(verifier=verifier)
    async with http(app) as wire:
        asking = asyncio.create_task(wire.post(PATH, json={**CHAT, "stream": stream}))
        await until(verifier.asked.is_set)
        app.state.server.stop()
        answer = await asking
        verifier.go_on.set()
    assert answer.status_code == (200 if stream else 503)
    assert '"code":"server_shutting_down"' in answer.text
    assert answer.text.endswith("data: [DONE]\n\n") is stream


async def test_stopping_tells_those_that_run(app):
    state = app.state.server
    async with http(app) as wire:
        whole = asyncio.create_task(wire.post(PATH, json=LONG))
        await until(lambda: state.decoder.engine.rows)
        state.admission.close()
        assert (await wire.get("/health")).status_code == 503
        state.stop()
        assert (await whole).status_code == 503
        assert (await wire.post(PATH, json=CHAT)).status_code == 503
