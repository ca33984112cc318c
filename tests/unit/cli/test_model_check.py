"""What `nad doctor --model` says of models."""

import pytest
from rich.console import Console

from nad_agents.cli.model_check import describe_model
from tests.adapters import write_adapter
from tests.quantized_models import METHODS, plain_model
from tests.tiny_models import byte_tokenizer, make_model, save_model


def findings(*arguments):
    return {finding.name: finding for finding in describe_model(Console(quiet=True), *map(str, arguments), None)}


@pytest.fixture
def folder(tmp_path):
    save_model(make_model("llama"), tmp_path / "tiny")
    return tmp_path / "tiny"


def test_a_plain_model(folder, monkeypatch):
    monkeypatch.setattr("nad_agents.models.device._cpu_has_bf16", lambda: False)
    found = findings(folder)
    assert found["model"].detail.startswith("tiny (LlamaForCausalLM) from a folder source, 0.0 GiB on cpu, context 512")
    # three layers of four projections of attention and three of the feed-forward block, and the unembedding
    assert found["weights"].detail == "22 linear layers float32"
    assert found["neurons"].detail == "144 in 3 of 3 layers (3 gated)"
    assert found["attribution"].status == "ok"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("method", [name for name in METHODS if name.startswith("compressed")])
def test_a_quantized_model(tmp_path, method):
    METHODS[method](tmp_path, plain_model())
    found = findings(tmp_path)
    assert found["weights"].detail.startswith("quantized (compressed-tensors); 22 linear layers float32")
    assert found["attribution"].status == "ok"


def test_an_adapter(folder, tmp_path):
    write_adapter(make_model("llama"), tmp_path / "lora")
    found = {f.name: f for f in describe_model(Console(quiet=True), str(folder), str(tmp_path / "lora"))}
    assert found["weights"].detail.endswith(f"; adapter {tmp_path / 'lora'}")
    assert found["model"].detail.startswith("tiny+lora ")


def test_a_model_whose_neurons_cannot_be_found(tmp_path):
    make_model("mamba", expand=2, state_size=4).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    found = findings(tmp_path)
    assert found["neurons"].status == "missing"
    assert "MambaForCausalLM" in found["neurons"].advice
    assert "attribution" not in found


def test_no_model(tmp_path):
    found = findings(tmp_path / "nowhere")
    assert found["model"].status == "broken"
    assert "there is no file or folder" in found["model"].advice
