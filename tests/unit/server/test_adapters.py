"""Adapters on a server: each is a model of its own over the protocol, and all share the weights and the queue."""

import asyncio

import pytest
from nad_server import ServerSettings, create_app

from nad_agents import NeuronAgreementDecoder
from nad_agents.exceptions import ConfigurationError
from nad_agents.testing import AcceptingVerifier
from tests.adapters import write_adapter
from tests.unit.langchain.chats import one_layer_model, tiny_decoder
from tests.unit.server.servers import CHAT, NEURONS, SAMPLING, http

NAMES = ("tiny", "one", "two")


@pytest.fixture(scope="module")
def decoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    model = one_layer_model(max_position_embeddings=4096)
    base = tiny_decoder(model=model, sampling=SAMPLING, config=NEURONS)
    found = {"tiny": base}
    for seed, name in enumerate(NAMES[1:]):
        write_adapter(model, folder / name, seed=seed)
        found[name] = base.with_adapter(folder / name)
    return found


@pytest.fixture
def app(decoders):
    adapters = {name: decoder for name, decoder in decoders.items() if name != "tiny"}
    return create_app(decoders["tiny"], ServerSettings(model_names=("tiny",)), adapters=adapters)


def content(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


async def test_each_name_answers_with_its_own_weights(app, decoders):
    async with http(app) as wire:
        answers = [
            await wire.post("/v1/chat/completions", json={**CHAT, "model": f"{name}@n=2", "top_logprobs": None})
            for name in NAMES
        ]
    texts = [content(answer) for answer in answers]
    assert len(set(texts)) == 3
    assert [answer.json()["model"] for answer in answers] == [f"{name}@n=2" for name in NAMES]


async def test_requests_to_all_of_them_at_the_same_time_answer_as_alone(app):
    async def ask(wire, name):
        return content(await wire.post("/v1/chat/completions", json={**CHAT, "model": name}))

    async with http(app) as wire:
        alone = [await ask(wire, name) for name in NAMES]
        together = await asyncio.gather(*(ask(wire, name) for name in (*NAMES, *reversed(NAMES))))
    assert together == [*alone, *reversed(alone)]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/completions", {"prompt": "hello", "max_tokens": 16}),
        ("/v1/responses", {"input": "hello", "max_output_tokens": 16}),
    ],
)
async def test_the_other_endpoints(app, path, field):
    async with http(app) as wire:
        answers = [await wire.post(path, json={"model": name, "seed": 3, **field}) for name in NAMES]
        unknown = await wire.post(path, json={"model": "three", **field})
    assert [answer.json()["model"] for answer in answers] == list(NAMES)
    texts = [
        str(answer.json().get("choices") or answer.json()["output"][0]["content"][0]["text"]) for answer in answers
    ]
    assert len(set(texts)) == 3
    assert unknown.status_code == 404
    assert "tiny, one, two" in unknown.text


async def test_they_are_listed(app):
    async with http(app) as wire:
        listed = (await wire.get("/v1/models")).json()["data"]
        one = (await wire.get("/v1/models/one")).json()
    assert [model["id"] for model in listed] == list(NAMES)
    assert one["id"] == "one"


def test_names_that_are_not_different(decoders):
    with pytest.raises(ConfigurationError, match="not all different"):
        create_app(decoders["tiny"], ServerSettings(model_names=("one",)), adapters={"one": decoders["one"]})


def test_an_adapter_with_a_verifier(decoders):
    checked = NeuronAgreementDecoder(decoders["tiny"].loaded, verifier=AcceptingVerifier())
    with pytest.raises(ConfigurationError, match="verifier"):
        create_app(decoders["tiny"], adapters={"one": checked})
