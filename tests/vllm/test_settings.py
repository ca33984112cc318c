"""Recording under the settings of vLLM that change how the model is run: compiled, and divided over two workers."""

import pytest

from nad_agents import NADConfig
from tests.vllm.conftest import CONFIG, OPTIONS, make_decoder
from tests.vllm.forced_pass import assert_recorded_as_forced, prompt_ids


@pytest.mark.timeout(600)
def test_sets_are_those_of_a_forced_forward_pass(folder, hf):
    options = {**OPTIONS, "enforce_eager": False, "tensor_parallel_size": 2}
    decoder = make_decoder(folder, engine="vllm", engine_options=options, max_rows=8)
    try:
        assert_recorded_as_forced(hf, prompt_ids(hf, "hello"), decoder.sample("hello"))
        config = NADConfig(pruning="first_chunk", **CONFIG)
        assert decoder.decode("hello", config=config).usage.generated_tokens < 4 * 24
    finally:
        decoder.close()
