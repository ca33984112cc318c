"""The `nad` object: it takes every option that a client may set, described and bounded as in the configs."""

from typing import get_args

import pytest
from nad_server.nad_options import NADOptions
from nad_server.protocol import ChatRequest

from nad_agents import NADConfig, SamplingConfig
from nad_agents.config_fields import bounds, description
from tests.unit.server.servers import CHAT, http, make_app

PATH = "/v1/chat/completions"
OTHER_TYPES = {
    "selector": "a client cannot send a callable",
    "selector_options": "a client sends plain values, and no objects such as a sandbox's runner",
}
NOT_FOR_CLIENTS = {
    "wave": "how much memory a request takes is the operator's decision",
    "generation_options": "options of transformers could take any time and memory, or undo the server's limits",
}
OPENAI_NAMES = {"max_new_tokens": "max_tokens"}


@pytest.fixture(scope="module")
def app():
    return make_app(max_candidates=8)


def test_no_option_of_the_selection_is_missing():
    assert set(NADConfig.model_fields) <= set(NADOptions.model_fields)
    assert set(NADOptions.model_fields) - set(NADConfig.model_fields) == {"n", "verify", "include_candidates"}


def test_no_option_of_the_sampling_is_missing():
    taken = {*NADOptions.model_fields, *ChatRequest.model_fields}
    names = {OPENAI_NAMES.get(name, name) for name in SamplingConfig.model_fields}
    assert names - taken == set(NOT_FOR_CLIENTS)


@pytest.mark.parametrize("name", NADConfig.model_fields)
def test_an_option_is_that_of_the_config(name):
    option, field = NADOptions.model_fields[name], NADConfig.model_fields[name]
    assert option.default is None
    given = bounds(NADOptions, name)
    assert {**given, **bounds(NADConfig, name)} == given
    if name in OTHER_TYPES:
        return
    assert option.description == description(NADConfig, name)
    assert set(get_args(option.annotation)) - {type(None)} in (
        {field.annotation},
        set(get_args(field.annotation)) - {type(None)},
    )


async def test_the_description_of_the_server_explains_the_options(app):
    async with http(app) as wire:
        schemas = (await wire.get("/openapi.json")).json()["components"]["schemas"]
    for name, option in schemas["NADOptions"]["properties"].items():
        assert option["description"], name
    assert schemas["NADOptions"]["properties"]["shrink"]["description"] == description(NADConfig, "shrink")
    assert {"type": "integer", "minimum": 2} in schemas["NADOptions"]["properties"]["shrink"]["anyOf"]
    for name in ("temperature", "top_p", "min_p", "seed"):
        assert schemas["ChatRequest"]["properties"][name]["description"] == description(SamplingConfig, name)


async def configs_of(app, monkeypatch, **nad):
    """The response to a request with these options, and the config with which the decoder ran."""
    decoder, configs = app.state.server.decoder, []
    submit = decoder.submit

    def noting(*args, config, **more):
        configs.append(config)
        return submit(*args, config=config, **more)

    monkeypatch.setattr(decoder, "submit", noting)
    async with http(app) as wire:
        answer = await wire.post(PATH, json={**CHAT, "nad": nad})
    return answer, configs


OPTIONS = {
    "selector": "medoid",
    "similarity": "cosine",
    "score": "attribution",
    "top_k_neurons": 10,
    "top_k_neurons_per_layer": 9,
    "layers": (0, 1),
    "router_weights": False,
    "chunk_size": 4,
    "compare_chunks": 2,
    "skip_tokens": 1,
    "common_prefix": True,
    "pruning": "halving",
    "keep": 2,
    "shrink": 3,
    "decided_at": 0.9,
    "passes": 2,
    "min_confidence": 0.1,
    "on_low_confidence": "annotate",
}


async def test_every_option_reaches_the_decoder(app, monkeypatch):
    assert set(NADConfig.model_fields) - set(OPTIONS) == {"selector_options", "record", "until"}
    answer, (config,) = await configs_of(app, monkeypatch, **OPTIONS)
    assert answer.status_code == 200, answer.text
    assert {name: getattr(config, name) for name in OPTIONS} == OPTIONS
    answer, (config,) = await configs_of(app, monkeypatch, selector="mean_logprob", record=False)
    assert answer.status_code == 200, answer.text
    assert config.record is False
    answer, (config,) = await configs_of(app, monkeypatch, selector="knn", selector_options={"k": 2})
    assert answer.status_code == 200, answer.text
    assert config.selector_options == {"k": 2}
    answer, (config,) = await configs_of(app, monkeypatch, until="decided")
    assert answer.status_code == 200, answer.text
    assert config.until == "decided"


async def test_null_keeps_what_the_server_was_started_with(app, monkeypatch):
    answer, (config,) = await configs_of(app, monkeypatch, **dict.fromkeys(OPTIONS))
    assert answer.status_code == 200, answer.text
    assert config == app.state.server.decoder.config


@pytest.mark.parametrize(
    ("nad", "param"),
    [
        ({"shrink": 1}, "nad.shrink"),
        ({"layers": [2, 1]}, "nad.layers"),
        ({"layers": [0]}, "nad.layers"),
        ({"layers": [0, 99]}, "nad.layers"),
        ({"selector": "knn", "record": False}, "nad.record"),
        ({"chunk_size": 5000}, "nad.chunk_size"),
        ({"until": "passed"}, "nad.until"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_cannot_work_is_refused_before_a_stream_begins(app, nad, param, stream):
    async with http(app) as wire:
        answer = await wire.post(PATH, json={**CHAT, "stream": stream, "nad": nad})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].removesuffix(".1") == param
