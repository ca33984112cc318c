"""What an operator relies on: keep-alives, leaving clients, stopping, metrics, checks, the OpenAPI description."""

import asyncio
import gc
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from nad_server.answering import with_silences
from nad_server.checking import PythonAnswers

from tests.tiny_models import make_model
from tests.unit.langchain.test_chat_model import Accepts
from tests.unit.server.servers import CHAT, http, make_app

PATH = "/v1/chat/completions"
LONG = {**CHAT, "max_tokens": 3000, "stop": None}


@pytest.fixture
def app():
    return make_app(keep_alive_seconds=0.01, max_rows=4, max_waiting=1)


def endless_model():
    model = make_model("llama", max_position_embeddings=4096)
    model.generation_config.eos_token_id = None
    return model


async def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


async def counted(app, name):
    async with http(app) as wire:
        lines = (await wire.get("/metrics")).text.splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + " ")), 0.0)


async def test_silences_are_broken_and_the_source_is_closed():
    closed = []

    async def source():
        try:
            await asyncio.sleep(0.05)
            yield 1
            await asyncio.sleep(60)
        finally:
            closed.append(True)

    stream = with_silences(source(), 0.01, asyncio.get_running_loop().create_future())
    found = [await anext(stream)]
    while found[-1] is None:
        found.append(await anext(stream))
    assert found[-1] == 1
    assert len(found) > 2
    await stream.aclose()
    assert closed


@pytest.mark.parametrize(
    ("path", "ping"),
    [(PATH, ": ping\n\n"), ("/v1/completions", ": ping\n\n"), ("/v1/responses", "response.in_progress")],
)
async def test_a_stream_is_never_silent_for_long(app, path, ping):
    asked = {"messages": CHAT["messages"]} if path == PATH else {"input" if "resp" in path else "prompt": "hello"}
    limit = "max_output_tokens" if "resp" in path else "max_tokens"
    async with http(app) as wire:
        answer = await wire.post(path, json={"model": "tiny", "stream": True, limit: 100, **asked})
    assert answer.text.count(ping) > 2


async def call(app, body, leave, *, sent=None, reads=None):
    """Ask over ASGI, read so many messages, and go away when told to; httpx's transport cannot leave."""
    sent, asked = [] if sent is None else sent, asyncio.Event()

    async def receive():
        if not asked.is_set():
            asked.set()
            return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}
        await leave.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)
        if len(sent) == reads:
            await asyncio.Event().wait()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"content-type", b"application/json")],
        "client": ("here", 1),
        "server": ("server", 80),
    }
    await app(scope, receive, send)
    return sent


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
    decoder, leave = app.state.service.decoder, asyncio.Event()
    held = HeldEngine(decoder.engine, monkeypatch, after=3)
    asking = asyncio.create_task(call(app, {**LONG, "stream": stream, "nad": {"pruning": pruning}}, leave))
    await until(held.reached.is_set)
    leave.set()
    sent = await asking
    assert (decoder.steps, decoder.engine.rows > 0) == (3, True)
    held.go_on.set()
    await until(lambda: decoder.engine.rows == 0)
    assert decoder.steps == 3
    assert app.state.service.admission.running == 0
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
    await until(lambda: len(sent) == 4 and app.state.service.decoder.engine.rows == 4)
    leave.set()
    await asking
    assert len(sent) == 4
    await until(lambda: app.state.service.decoder.engine.rows == 0)
    assert app.state.service.admission.running == 0


async def test_who_waits_gets_pings_and_the_next_one_429(app):
    leave = asyncio.Event()
    first = asyncio.create_task(call(app, LONG, leave))
    await until(lambda: app.state.service.admission.running == 1)
    second = asyncio.create_task(call(app, {**CHAT, "stream": True}, asyncio.Event()))
    await until(lambda: app.state.service.admission.waiting == 1)
    async with http(app) as wire:
        for stream in (False, True):
            refused = await wire.post(PATH, json={**CHAT, "stream": stream})
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
        assert (await wire.get("/health")).json() == {"status": "ok", "running": 1, "waiting": 1}
    await asyncio.sleep(0.05)
    leave.set()
    await first
    body = b"".join(message.get("body", b"") for message in await second).decode()
    assert ": ping" in body
    assert body.endswith("data: [DONE]\n\n")


async def test_rows_of_dropped_candidates_go_to_who_waits_while_the_first_still_runs():
    app, leave = make_app(model=endless_model(), max_rows=4), asyncio.Event()
    first = asyncio.create_task(call(app, {**LONG, "nad": {"pruning": "first_chunk"}}, leave))
    await until(lambda: app.state.service.admission.running == 1)
    async with http(app) as wire:
        second = await wire.post(PATH, json={**CHAT, "nad": {"n": 3}})
        assert second.json()["nad"]["n"] == 3
        assert app.state.service.admission.running == 1
        assert app.state.service.admission.held == 1
    assert not first.done()
    leave.set()
    await first
    assert app.state.service.admission.held == 0


class Blocks(Accepts):
    def __init__(self):
        super().__init__()
        self.asked, self.go_on = threading.Event(), threading.Event()

    def verify(self, answer, *, prompt=""):
        self.asked.set()
        assert self.go_on.wait(20)
        return super().verify(answer, prompt=prompt)


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
        await until(lambda: app.state.service.decoder.engine.rows > 0)
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
        app.state.service.stop()
        answer = await asking
        verifier.go_on.set()
    assert answer.status_code == (200 if stream else 503)
    assert '"code":"server_shutting_down"' in answer.text
    assert answer.text.endswith("data: [DONE]\n\n") is stream


async def test_stopping_tells_those_that_run(app):
    service = app.state.service
    async with http(app) as wire:
        whole = asyncio.create_task(wire.post(PATH, json=LONG))
        await until(lambda: service.decoder.engine.rows)
        service.admission.close()
        assert (await wire.get("/health")).status_code == 503
        service.stop()
        assert (await whole).status_code == 503
        assert (await wire.post(PATH, json=CHAT)).status_code == 503


async def test_what_is_counted(app):
    async with http(app) as wire:
        usage = (await wire.post(PATH, json=CHAT)).json()
        await wire.post(PATH, json={**CHAT, "stream": True})
        await wire.post(PATH, json={**CHAT, "model": "other"})
        await wire.get("/v1/no/such/path")
    assert await counted(app, f'nad_requests_total{{endpoint="{PATH}",status="200"}}') == 2
    assert await counted(app, f'nad_requests_total{{endpoint="{PATH}",status="404"}}') == 1
    assert await counted(app, 'nad_requests_total{endpoint="other",status="404"}') == 1
    assert await counted(app, 'nad_tokens_total{kind="generated"}') == 2 * usage["nad"]["tokens_generated"]
    assert await counted(app, f'nad_first_token_seconds_count{{endpoint="{PATH}"}}') == 1
    assert await counted(app, 'nad_selections_total{check="none",selector="knn"}') == 2


class Counts(Accepts):
    def __init__(self):
        super().__init__()
        self.checked = []

    def verify(self, answer, *, prompt=""):
        self.checked.append(answer)
        return super().verify(answer, prompt=prompt)


async def test_checks_are_left_out_on_request_only():
    verifier = Counts()
    async with http(make_app(verifier=verifier)) as wire:
        checked = (await wire.post(PATH, json={**CHAT, "nad": {"verify": True}})).json()
        by_default = (await wire.post(PATH, json=CHAT)).json()
        without = (await wire.post(PATH, json={**CHAT, "nad": {"verify": False}})).json()
    assert "verification" in checked["nad"]
    assert "verification" in by_default["nad"]
    assert "verification" not in without["nad"]
    assert verifier.checked


def test_answers_without_python_pass_unseen():
    verifier = Counts()
    answers = PythonAnswers(verifier)
    for text in ("Hello.", "```json\n{}\n```", "```\nls -l\n```"):
        assert answers.verify(text).passed
        assert answers.fingerprint(text) == text
    assert not verifier.checked
    for text in ("```python\nx = 1\n```", "Look:\n```\ndef f():\n    pass\n```\n", "```py\nx = 1"):
        answers.verify(text)
    assert len(verifier.checked) == 3


async def test_pages_from_elsewhere_are_let_in_where_the_operator_says_so():
    origin = {"origin": "http://page"}
    ask = {**origin, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    async with http(make_app(api_keys=("k",), cors_origins=("http://page",))) as wire:
        allowed = await wire.options(PATH, headers=ask)
        refused = await wire.get("/v1/models", headers=origin)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "http://page"
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "http://page"


async def test_the_description_names_every_endpoint(app):
    async with http(app) as wire:
        description = (await wire.get("/openapi.json")).json()
        page = await wire.get("/docs")
    assert isinstance(page, httpx.Response)
    assert page.status_code == 200
    assert {PATH, "/v1/completions", "/v1/responses", "/v1/models", "/health", "/metrics"} <= set(description["paths"])
    answers = description["paths"][PATH]["post"]["responses"]
    assert {"200", "400", "401", "404", "413", "429"} <= set(answers)
