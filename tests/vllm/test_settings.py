"""Recording under settings of vLLM that change how the model is run: compiled, and divided over two workers."""

import pytest

from nad_agents import NADConfig
from tests.vllm.conftest import OPTIONS, make_decoder
from tests.vllm.test_recording import assert_recorded_as_forced, prompt_ids

SETTINGS = {
    "compiled": {"enforce_eager": False},
    "two workers": {"tensor_parallel_size": 2},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_sets_are_those_of_a_forced_forward_pass(name, folder, hf):
    decoder = make_decoder(folder, engine="vllm", engine_options={**OPTIONS, **SETTINGS[name]}, max_rows=8)
    try:
        assert_recorded_as_forced(hf, prompt_ids(hf, "hello"), decoder.sample("hello"))
        config = NADConfig(pruning="first_chunk", top_k=24, per_layer_top=12, chunk_size=8)
        assert decoder.decode("hello", config=config).usage.saved_tokens > 0
    finally:
        decoder.close()
