"""Models that accelerate spreads over several places."""

import pytest
from accelerate import dispatch_model

from nad_agents import ConfigurationError
from nad_agents.engine.hf.engine import HFEngine
from tests.tiny_models import byte_tokenizer, make_model, tiny_model


def test_a_model_that_is_spread_is_refused_with_its_places(tmp_path):
    model = make_model("llama")
    places = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    places |= {f"model.layers.{i}": "disk" if i else "cpu" for i in range(3)}
    spread = dispatch_model(model, places, main_device="cpu", offload_dir=tmp_path)
    with pytest.raises(ConfigurationError, match=r"spread over cpu, disk by its device_map.*vllm"):
        HFEngine(spread, byte_tokenizer())


def test_a_device_map_of_one_device_is_none(monkeypatch):
    model = tiny_model()
    monkeypatch.setattr(model, "hf_device_map", {"": "cpu"}, raising=False)
    assert HFEngine(model, byte_tokenizer()).rows == 0
