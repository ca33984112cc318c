"""LoRA adapters: merged, beside shared weights, and what is refused before weights are read."""

import json

import pytest
import safetensors.torch
import torch
from huggingface_hub import constants
from transformers.pytorch_utils import Conv1D

from nad_agents import NADConfig, NeuronAgreementDecoder, SamplingConfig
from nad_agents.exceptions import ConfigurationError, MissingDependencyError, ModelLoadError, UnsupportedModelError
from nad_agents.models import adapter as module
from nad_agents.models import load_model, loading
from nad_agents.neurons.architectures import find_feed_forwards
from tests.adapters import write_adapter
from tests.tiny_models import make_model, save_model

SAMPLING = SamplingConfig(n=3, max_new_tokens=12, temperature=1.0, seed=5)


@pytest.fixture(scope="module", params=["llama", "gpt2", "phi3"])
def saved(request, tmp_path_factory):
    """A model's folder and that of an adapter."""
    folder = tmp_path_factory.mktemp(request.param)
    model = make_model(request.param)
    save_model(model, folder / "base")
    write_adapter(model, folder / "lora")
    return folder / "base", folder / "lora"


def merged_by_hand(base, lora):
    model = load_model(base, device="cpu", dtype="float32")
    config = json.loads((lora / "adapter_config.json").read_text())
    weights = safetensors.torch.load_file(lora / "adapter_model.safetensors")
    scale = config["lora_alpha"] / config["r"]
    stems = {name.removesuffix(".lora_A.weight") for name in weights if name.endswith(".lora_A.weight")}
    for stem in stems:
        layer = model.model.get_submodule(stem.removeprefix("base_model.model."))
        delta = scale * weights[f"{stem}.lora_B.weight"] @ weights[f"{stem}.lora_A.weight"]
        layer.weight += delta.T if isinstance(layer, Conv1D) else delta
    return model


def sample(decoder, score):
    config = NADConfig(score=score, top_k_neurons=20, top_k_neurons_per_layer=12)
    return decoder.sample("def add", sampling=SAMPLING, config=config)


@pytest.mark.parametrize("score", ["activation", "attribution"])
@pytest.mark.parametrize("shared", [False, True])
def test_recording_equals_the_merged_model(saved, score, shared):
    base, lora = saved
    expected = sample(NeuronAgreementDecoder(merged_by_hand(base, lora)), score)
    model = load_model(base, device="cpu", dtype="float32") if shared else base
    decoder = NeuronAgreementDecoder(model, adapter=lora, device="cpu", dtype="float32")
    found = sample(decoder, score)
    for mine, theirs in zip(found.rollouts, expected.rollouts, strict=True):
        assert mine.token_ids.tolist() == theirs.token_ids.tolist()
        for neurons, others in zip(mine.neurons, theirs.neurons, strict=True):
            # a sum in another order may swap two neurons of nearly the same score at the edge
            assert len(set(neurons) ^ set(others)) <= 2
    assert decoder.loaded.adapter == str(lora)
    assert decoder.loaded.name == "base+lora"
    plain = sample(NeuronAgreementDecoder(base, device="cpu", dtype="float32"), score)
    assert plain.rollouts[0].token_ids.tolist() != found.rollouts[0].token_ids.tolist()


def test_the_down_projection_is_the_merged_one(saved):
    base, lora = saved
    loaded = load_model(base, device="cpu", dtype="float32")
    before = [block.dense.down_weight().clone() for block in find_feed_forwards(loaded.model)]
    expected = [block.dense.down_weight() for block in find_feed_forwards(merged_by_hand(base, lora).model)]
    adapted = find_feed_forwards(loaded.with_adapter(lora).model)
    for block, merged, plain in zip(adapted, expected, before, strict=True):
        torch.testing.assert_close(block.dense.down_weight(), merged)
        assert not torch.allclose(block.dense.down_weight(), plain, atol=1e-3)
    for block, plain in zip(find_feed_forwards(loaded.model), before, strict=True):
        assert torch.equal(block.dense.down_weight(), plain), "the base model has changed"


def test_models_with_adapters_share_the_weights(saved):
    base, lora = saved
    loaded = load_model(base, device="cpu", dtype="float32")
    own = {parameter.data_ptr(): parameter.nbytes for parameter in loaded.model.parameters()}
    adapted = loaded.with_adapter(lora)
    new = sum(p.nbytes for p in adapted.model.parameters() if p.data_ptr() not in own)
    assert {p.data_ptr() for p in adapted.model.parameters()} >= own.keys()
    assert new == sum(p.nbytes for name, p in adapted.model.named_parameters() if "lora_" in name)
    assert not any("lora_" in name for name, _ in loaded.model.named_parameters())
    assert not any(parameter.requires_grad for parameter in adapted.model.parameters())


def test_dora_beside_the_weights_is_refused_for_attribution_alone(tmp_path):
    model = make_model("llama")
    save_model(model, tmp_path / "base")
    write_adapter(model, tmp_path / "dora", use_dora=True)
    loaded = load_model(tmp_path / "base", device="cpu", dtype="float32")
    decoder = NeuronAgreementDecoder(loaded, adapter=tmp_path / "dora")
    with pytest.raises(UnsupportedModelError, match="score='activation'"):
        sample(decoder, "attribution")
    beside = sample(decoder, "activation")
    merged = NeuronAgreementDecoder(tmp_path / "base", adapter=tmp_path / "dora", device="cpu", dtype="float32")
    assert [r.token_ids.tolist() for r in sample(merged, "activation").rollouts] == [
        r.token_ids.tolist() for r in beside.rollouts
    ]
    sample(merged, "attribution")


class TestRefused:
    @pytest.fixture(autouse=True)
    def no_weights(self, monkeypatch):
        monkeypatch.setattr(loading, "read_weights", lambda *_: pytest.fail("weights were read"))

    def adapter(self, folder, **changes):
        folder.mkdir()
        config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", **changes}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        return folder

    def test_without_peft(self, saved, monkeypatch):
        monkeypatch.setattr(module.importlib.util, "find_spec", lambda _name: None)
        with pytest.raises(MissingDependencyError, match=r'pip install "nad-agents\[peft\]"'):
            load_model(saved[0], adapter=saved[1])

    def test_no_such_folder(self, saved, tmp_path):
        with pytest.raises(ModelLoadError, match="there is no folder"):
            load_model(saved[0], adapter=tmp_path / "nowhere")

    def test_a_file_is_no_folder(self, saved):
        with pytest.raises(ModelLoadError, match="is a file; give the folder that PEFT saved"):
            load_model(saved[0], adapter=str(saved[1] / "adapter_config.json"))

    def test_a_folder_without_a_config(self, saved, tmp_path):
        with pytest.raises(ModelLoadError, match=r"has no adapter_config\.json"):
            load_model(saved[0], adapter=tmp_path)

    def test_a_damaged_config(self, saved, tmp_path):
        (tmp_path / "adapter_config.json").write_text("[")
        with pytest.raises(ModelLoadError, match="cannot be read"):
            load_model(saved[0], adapter=tmp_path)

    def test_another_type(self, saved, tmp_path):
        with pytest.raises(UnsupportedModelError, match="PROMPT_TUNING, not LORA"):
            load_model(saved[0], adapter=self.adapter(tmp_path / "prompt", peft_type="PROMPT_TUNING"))

    def test_another_task(self, saved, tmp_path):
        with pytest.raises(UnsupportedModelError, match="SEQ_CLS"):
            load_model(saved[0], adapter=self.adapter(tmp_path / "classifier", task_type="SEQ_CLS"))

    def test_not_on_this_machine(self, saved):
        with pytest.raises(ModelLoadError, match="the adapter owner/lora is not on this machine") as error:
            load_model(saved[0], adapter="owner/lora")
        assert constants.HF_HUB_CACHE in str(error.value)
        assert "give a folder that PEFT saved" in str(error.value)
        assert "GGUF" not in str(error.value)

    def test_a_name_that_is_no_hub_id(self, saved):
        with pytest.raises(ModelLoadError, match="adapter='a b' is neither a file nor a folder here"):
            load_model(saved[0], adapter="a b")


class TestDoesNotFit:
    def test_another_model(self, saved, tmp_path):
        write_adapter(make_model("llama", hidden_size=16, intermediate_size=24), tmp_path / "lora")
        with pytest.raises(ModelLoadError, match="lora cannot be applied"):
            load_model(saved[0], adapter=tmp_path / "lora", device="cpu")

    def test_missing_weights(self, saved, tmp_path):
        model = load_model(saved[0], device="cpu", dtype="float32").model
        write_adapter(model, tmp_path / "lora")
        path = tmp_path / "lora" / "adapter_model.safetensors"
        weights = safetensors.torch.load_file(path)
        weights.pop(next(iter(weights)))
        safetensors.torch.save_file(weights, path)
        with pytest.raises(ModelLoadError, match="lacks weights"):
            load_model(saved[0], adapter=tmp_path / "lora", device="cpu", dtype="float32")

    def test_a_second_adapter(self, saved):
        base, lora = saved
        adapted = load_model(base, device="cpu", dtype="float32").with_adapter(lora)
        with pytest.raises(ConfigurationError, match="has an adapter already"):
            adapted.with_adapter(lora)
