"""LoRA adapters that vLLM applies: recorded sets are those of the model in transformers with the adapter merged."""

import pytest
from nad_server.options import ServeOptions
from nad_server.served_app import open_app
from rich.console import Console
from starlette.testclient import TestClient

from nad_agents import ConfigurationError, ModelLoadError, UnsupportedModelError
from tests.adapters import write_adapter
from tests.vllm.conftest import OPTIONS, make_decoder
from tests.vllm.forced_pass import assert_recorded_as_forced, assert_two_workers_record_as_forced, prompt_ids


@pytest.fixture(scope="module")
def base(folder):
    options = {**OPTIONS, "enable_lora": True, "max_loras": 3, "max_lora_rank": 8}
    decoder = make_decoder(folder, engine="vllm", engine_options=options, max_rows=16)
    yield decoder
    decoder.close()


def test_sets_are_those_of_the_adapted_model_and_differ_from_the_models(base, hf, folder, adapters):
    decoders = {name: base.with_adapter(adapters / name) for name in ("one", "two")}
    # all of them in one batch of vLLM
    pending = {name: decoder.submit(["hello"])[0] for name, decoder in {"base": base, **decoders}.items()}
    groups = {name: one.outcome().group for name, one in pending.items()}
    assert_recorded_as_forced(hf, prompt_ids(hf, "hello"), groups["base"])
    for name in decoders:
        adapted = make_decoder(folder, adapter=adapters / name)
        assert_recorded_as_forced(adapted, prompt_ids(hf, "hello"), groups[name])
    texts = [tuple(rollout.text for rollout in group.rollouts) for group in groups.values()]
    assert len(set(texts)) == 3
    assert decoders["one"].loaded.name == f"{base.loaded.name}+one"


@pytest.mark.timeout(600)
def test_two_workers_that_share_each_layer(folder, adapters):
    adapted = make_decoder(folder, adapter=adapters / "one")
    assert_two_workers_record_as_forced(adapted, folder, adapter=adapters / "one")


@pytest.mark.timeout(600)
def test_a_server_with_two_adapters(folder, adapters):
    options = ServeOptions(
        model=str(folder),
        engine="vllm",
        adapter=tuple(f"{name}={adapters / name}" for name in ("one", "two")),
        dtype="float32",
        n=4,
        max_new_tokens=24,
        engine_option=("max_model_len=512", "enforce_eager=true"),
        max_rows=16,
    )
    options.check()
    console = Console(quiet=True)
    with open_app(options, options.settings, console) as app, TestClient(app, base_url="http://127.0.0.1:8000") as wire:
        names = [one["id"] for one in wire.get("/v1/models").json()["data"]]
        requests = [{"model": name, "prompt": "hello", "seed": 3} for name in names]
        answers = [wire.post("/v1/completions", json=request).json() for request in requests]
    assert names[1:] == ["one", "two"]
    assert len({answer["choices"][0]["text"] for answer in answers}) == 3


def test_a_rank_that_vllm_does_not_run_is_refused_before_anything_is_loaded(folder, hf, tmp_path):
    write_adapter(hf.loaded.model, tmp_path, r=520)
    with pytest.raises(UnsupportedModelError, match="has rank 520, and vLLM runs ranks up to 512"):
        make_decoder(folder, engine="vllm", adapter=tmp_path)


def test_adapters_that_the_running_vllm_cannot_apply_are_named(base, hf, tmp_path):
    write_adapter(hf.loaded.model, tmp_path / "high", r=16)
    with pytest.raises(ConfigurationError, match=r"without room for the adapter .*'max_lora_rank': 16"):
        base.with_adapter(tmp_path / "high")
    write_adapter(hf.loaded.model, tmp_path / "decomposed", use_dora=True)
    with pytest.raises(ModelLoadError, match=r"vLLM cannot apply the adapter .* DoRA"):
        base.with_adapter(tmp_path / "decomposed")
    with pytest.raises(ModelLoadError, match="there is no folder"):
        base.with_adapter(tmp_path / "missing")
