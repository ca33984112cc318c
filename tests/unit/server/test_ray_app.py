"""The application of Ray Serve, and one of its replicas, without a cluster."""

import asyncio
import re

import pytest
import ray
import yaml
from nad_server.ray_app import Replica, app, default_app
from nad_server.ray_options import RayOptions
from ray import serve
from ray.serve.schema import ServeDeploySchema

from nad_agents import ConfigurationError, GenerationError
from tests.tiny_models import make_model, save_model
from tests.unit.server.servers import CHAT, http
from tests.unit.sources import ROOT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny"
    save_model(make_model("llama"), path)
    return path


@pytest.fixture
def replica(folder):
    made = Replica(RayOptions.parse({"model": str(folder), "n": 2, "max_waiting": 1, "max_rows": 8}))
    yield made
    made.__del__()


async def test_a_replica_serves_what_nad_serve_serves(replica):
    async with http(replica.__serve_build_asgi_app__()) as wire:
        answer = await wire.post("/v1/chat/completions", json=CHAT, headers={"host": "localhost"})
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"]


async def test_a_replica_takes_whatever_ray_gives_it(replica):
    # Ray gives it twice what fills its batch of 8 rows
    assert replica.__serve_build_asgi_app__().state.server.settings.max_waiting == 8


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_replica_whose_engine_thread_has_ended_is_not_healthy(replica, monkeypatch):
    served = replica.__serve_build_asgi_app__()
    decoder = served.state.server.decoder
    await replica.check_health()

    def ends():
        raise RuntimeError("the thread ends")

    monkeypatch.setattr(decoder.engine, "can_join", ends)
    asked = {"host": "localhost"}
    async with http(served) as wire:
        asking = [
            asyncio.create_task(wire.post("/v1/chat/completions", json={**CHAT, "seed": seed}, headers=asked))
            for seed in range(2)
        ]
        # a thread that was idle for long ends without an error
        while decoder._scheduler._error is None:
            await asyncio.sleep(0.005)
        with pytest.raises(GenerationError, match="has ended"):
            await replica.check_health()
        health = await wire.get("/health", headers=asked)
        assert (health.status_code, health.json()) == (503, {"status": "dead"})
        assert {answer.status_code for answer in await asyncio.gather(*asking)} == {500}


def test_building_an_application_starts_nothing():
    for made in (default_app, app({"replicas": 2, "num_gpus": 1}), app({"max_replicas": 3})):
        assert isinstance(made, serve.Application)
    with pytest.raises(ConfigurationError, match="--no-such"):
        app({"no_such": 1})
    assert not ray.is_initialized()


def test_the_configuration_on_the_page_is_one_that_ray_and_the_application_accept():
    page = (ROOT / "docs" / "how-to" / "ray.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (application,) = ServeDeploySchema.model_validate(yaml.safe_load(text)).applications
    assert application.import_path == "nad_server.ray_app:app"
    assert isinstance(app(application.args), serve.Application)
