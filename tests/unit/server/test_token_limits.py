"""How long an answer may become: by default what the context and the memory leave, within the server's bound."""

import pytest

from nad_agents.engine.hf import request_checks
from nad_agents.exceptions import ConfigurationError
from nad_agents.types import NADConfig, SamplingConfig
from tests.unit.langchain.chats import one_layer_model
from tests.unit.server.servers import ADD, CHAT, endless_model, http, make_app

PATHS = {
    "/v1/chat/completions": ({"messages": CHAT["messages"]}, "max_tokens"),
    "/v1/completions": ({"prompt": "hello"}, "max_tokens"),
    "/v1/responses": ({"input": "hello"}, "max_output_tokens"),
}
FORCED = {"tools": [ADD], "tool_choice": "required"}
FLAT = {"tools": [{"type": "function", **ADD["function"]}], "tool_choice": "required"}


def endless(length):
    model = one_layer_model(max_position_embeddings=length)
    model.generation_config.eos_token_id = None
    return model


def generated(answer):
    usage = answer.json()["usage"]
    found = [usage.get("prompt_tokens", usage.get("input_tokens")), usage.get("completion_tokens")]
    return found[0], found[1] or usage["output_tokens"]


async def ask(app, path, **change):
    async with http(app) as wire:
        return await wire.post(path, json={"model": "tiny", "seed": 3, "nad": {"n": 2}, **PATHS[path][0], **change})


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("limit", [None, -1, 100_000])
async def test_an_answer_may_have_what_the_prompt_leaves_of_the_context(path, limit):
    answer = await ask(make_app(model=endless(100)), path, **{PATHS[path][1]: limit})
    assert answer.status_code == 200, answer.text
    assert sum(generated(answer)) == 100


@pytest.mark.parametrize(("limit", "tokens"), [(None, 30), (50, 50), (100_000, 100)])
async def test_the_operators_bound_is_for_requests_that_set_none(limit, tokens):
    answer = await ask(make_app(model=endless(100), max_tokens=30), "/v1/chat/completions", max_tokens=limit)
    prompt, written = generated(answer)
    assert written == tokens - (prompt if tokens == 100 else 0)


@pytest.mark.parametrize("path", PATHS)
async def test_a_prompt_that_leaves_nothing_is_refused_whatever_the_limit(path):
    field = next(iter(PATHS[path][0]))
    text = "x" * 300
    prompt = [{"role": "user", "content": text}] if field == "messages" else text
    answer = await ask(make_app(model=endless(200)), path, **{field: prompt, PATHS[path][1]: 5})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field
    assert answer.json()["error"]["code"] == "context_length_exceeded"


def test_a_limit_that_nobody_asked_for_takes_half_of_the_memory(monkeypatch):
    decoder = make_app(model=endless_model()).state.server.decoder
    sampling, config = (
        SamplingConfig(n=4, max_new_tokens=3000, seed=1),
        NADConfig(top_k_neurons=12, top_k_neurons_per_layer=12),
    )
    assert decoder.fitting_token_limit([1, 2, 3], sampling=sampling, config=config) == 3000
    memory = 8 * 2**20
    monkeypatch.setattr(request_checks, "available_device_memory", lambda _: memory)
    limit = decoder.fitting_token_limit([1, 2, 3], sampling=sampling, config=config)
    assert 0 < limit < 3000
    monkeypatch.setattr(request_checks, "available_device_memory", lambda _: memory // 2)
    prompt = [{"role": "user", "content": "x"}]
    # a few tokens fewer, since the chat template adds some to the prompt
    shorter = sampling.model_copy(update={"max_new_tokens": limit - 100})
    (pending,) = decoder.submit([prompt], sampling=shorter, config=config)
    pending.cancel()
    with pytest.raises(ConfigurationError, match="are available"):
        decoder.submit([prompt], sampling=sampling, config=config)


@pytest.mark.parametrize("limit", [None, 100_000])
async def test_scarce_memory_shortens_the_default_and_refuses_nothing(monkeypatch, limit):
    app = make_app(model=endless_model())
    decoder, asked = app.state.server.decoder, []
    submit = decoder.submit

    def shortened(prompts, *, sampling, **options):
        asked.append(sampling.max_new_tokens)
        return submit(prompts, sampling=sampling.model_copy(update={"max_new_tokens": 4}), **options)

    monkeypatch.setattr(decoder, "submit", shortened)
    monkeypatch.setattr(request_checks, "available_device_memory", lambda _: 6 * 2**20)
    assert (await ask(app, "/v1/chat/completions", max_tokens=limit)).status_code == 200
    assert 1024 < asked[0] < 3900


@pytest.mark.parametrize(
    ("path", "change", "param"),
    [
        ("/v1/chat/completions", {**FORCED, "max_tokens": 5}, "max_tokens"),
        ("/v1/chat/completions", {**FORCED, "max_completion_tokens": 5}, "max_completion_tokens"),
        ("/v1/chat/completions", {"response_format": {"type": "json_object"}, "max_tokens": 1}, "max_tokens"),
        ("/v1/responses", {**FLAT, "max_output_tokens": 5}, "max_output_tokens"),
    ],
)
async def test_a_limit_below_the_shortest_answer_is_named(path, change, param):
    answer = await ask(make_app(), path, **change)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param), error
    assert f"{param}={change[param]}; raise {param}" in error["message"]


@pytest.mark.parametrize("limit", [None, 100_000])
async def test_a_prompt_that_leaves_too_little_for_the_shortest_answer_is_named(limit):
    app = make_app(model=one_layer_model(max_position_embeddings=4096))
    empty = await ask(app, "/v1/chat/completions", max_tokens=1)
    text = "x" * (4096 - empty.json()["usage"]["prompt_tokens"] - 8)
    format_ = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "string", "minLength": 30}}}
    change = {"messages": [{"role": "user", "content": text}], "response_format": format_, "max_tokens": limit}
    error = (await ask(app, "/v1/chat/completions", **change)).json()["error"]
    assert (error["param"], error["code"]) == ("messages", "context_length_exceeded"), error
    assert "the prompt leaves 13; shorten the messages" in error["message"]


@pytest.mark.parametrize("path", PATHS)
async def test_cached_tokens_are_those_that_were_not_read_again(path):
    app, text = make_app(), "a long beginning that two prompts share, long enough to be kept, "
    field = next(iter(PATHS[path][0]))

    def saved(answer):
        usage = answer.json()["usage"]
        details = usage.get("prompt_tokens_details") or usage["input_tokens_details"]
        return details["cached_tokens"], usage.get("prompt_tokens", usage.get("input_tokens"))

    def body(end):
        return {field: [{"role": "user", "content": text + end}] if field == "messages" else text + end}

    limit = {PATHS[path][1]: 2}
    assert saved(await ask(app, path, **body("one"), **limit))[0] == 0
    again, prompt = saved(await ask(app, path, **body("one"), **limit))
    # the last token of a prompt is read with every candidate
    assert again == prompt - 1
    part, prompt = saved(await ask(app, path, **body("two"), **limit))
    assert len(text) <= part < prompt - 1
