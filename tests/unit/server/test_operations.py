"""What an operator relies on: keep-alives, metrics, checks, the OpenAPI description."""

import asyncio

import httpx
import pytest
from nad_server import create_app
from nad_server.python_verifier import PythonAnswers
from nad_server.sse import with_silences

from nad_agents.testing import AcceptingVerifier, ScriptedAnswer, ScriptedDecoder
from nad_agents.verification import is_tested_pass
from tests.unit.server.servers import CHAT, counted, http, make_app

PATH = "/v1/chat/completions"


@pytest.fixture
def app():
    return make_app(keep_alive_seconds=0.01, max_rows=4, max_waiting=1)


async def test_silences_are_broken_and_the_source_is_closed():
    closed, go_on = [], asyncio.Event()

    async def source():
        try:
            await go_on.wait()
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    stream = with_silences(source(), 0.01, asyncio.get_running_loop().create_future())
    assert [await anext(stream) for _ in range(3)] == [None] * 3
    go_on.set()
    while (found := await anext(stream)) is None:
        pass
    assert found == 1
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
    assert await counted(app, 'nad_selections_total{check="none",selector="nad_fusion"}') == 2


async def test_checks_are_left_out_on_request_only():
    verifier = AcceptingVerifier()
    async with http(make_app(verifier=verifier)) as wire:
        checked = (await wire.post(PATH, json={**CHAT, "nad": {"verify": True}})).json()
        by_default = (await wire.post(PATH, json=CHAT)).json()
        without = (await wire.post(PATH, json={**CHAT, "nad": {"verify": False}})).json()
    assert "verification" in checked["nad"]
    assert "verification" in by_default["nad"]
    assert "verification" not in without["nad"]
    assert verifier.calls


def test_answers_without_python_pass_unseen():
    verifier = AcceptingVerifier()
    answers = PythonAnswers(verifier)
    for text in ("Hello.", "42", "Yes", "```json\n{}\n```", "```\nls -l\n```"):
        verdict = answers.verify(text)
        assert verdict.to_dict()["reason"] == "the answer holds no Python"
        assert verdict.passed
        assert not is_tested_pass(verdict)
        assert answers.fingerprint(text) == text
    assert not verifier.calls
    for text in ("```python\nx = 1\n```", "Look:\n```\ndef f():\n    pass\n```\n", "```py\nx = 1"):
        answers.verify(text)
    assert len(verifier.calls) == 3
    # without fences as well
    answers.verify("def f():\n    return 1\n")
    assert len(verifier.calls) == 4


@pytest.mark.parametrize(("text", "check"), [("Hello.", "none"), ("```python\nx = 1\n```", "passed")])
async def test_an_answer_without_python_counts_as_unchecked(text, check):
    app = create_app(
        ScriptedDecoder(ScriptedAnswer([text], scores=[1])), verifier=PythonAnswers(AcceptingVerifier(bool))
    )
    async with http(app) as wire:
        answer = await wire.post(PATH, json={**CHAT, "model": "scripted", "n": 1, "nad": {"selector": "first"}})
    assert answer.status_code == 200, answer.text
    assert await counted(app, f'nad_selections_total{{check="{check}",selector="first"}}') == 1


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
