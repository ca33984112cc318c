"""vLLM with a tiny random model, started once for all tests, and the engine over transformers with the same model."""

import os

import pytest

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")

from nad_agents import NADConfig, NeuronAgreementDecoder, SamplingConfig, testing
from tests.adapters import write_adapter

CONFIG = {"top_k_neurons": 24, "top_k_neurons_per_layer": 12, "chunk_size": 8}
SAMPLING = SamplingConfig(n=4, max_new_tokens=24, temperature=1.0, top_k=0, top_p=1.0, seed=3)
SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2, "num_key_value_heads": 1}
OPTIONS = {"max_model_len": 512, "enforce_eager": True}


def pytest_collection_modifyitems(items):
    for item in items:
        # vLLM and what it imports warn of their own affairs
        item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny-llama")
    made = testing.tiny_model("llama", head_dim=32, max_position_embeddings=512, **SHAPE)
    made.model.save_pretrained(path)
    made.tokenizer.save_pretrained(path)
    return path


def make_decoder(folder, **options):
    config = NADConfig(**CONFIG)
    return NeuronAgreementDecoder(folder, sampling=SAMPLING, config=config, dtype="float32", device="cpu", **options)


@pytest.fixture(scope="session")
def vllm(folder):
    decoder = make_decoder(folder, engine="vllm", engine_options=OPTIONS, max_rows=16)
    yield decoder
    decoder.close()


@pytest.fixture(scope="session")
def hf(folder):
    return make_decoder(folder)


@pytest.fixture(scope="session")
def adapters(hf, tmp_path_factory):
    """A folder with two LoRA adapters of the tiny model, one and two."""
    folder = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(("one", "two")):
        write_adapter(hf.loaded.model, folder / name, seed=seed)
    return folder


@pytest.fixture(params=["hf", "vllm"])
def decoder(request):
    """What holds for one engine holds for the other."""
    return request.getfixturevalue(request.param)
