"""What an engine cannot do is refused before its packages are imported, or a server is asked."""

import pytest

from nad_agents import ConfigurationError, NeuronAgreementDecoder, testing
from nad_agents.exceptions import ModelLoadError

ADDRESS = {"base_url": "http://127.0.0.1:9"}


@pytest.mark.parametrize("engine", ["openai", "vllm"])
def test_an_adapter_is_loaded_by_the_server_that_is_to_run_it(engine):
    with pytest.raises(ConfigurationError, match=r"load it there.* --lora-modules NAME=\./lora.*'served_name': 'NAME'"):
        NeuronAgreementDecoder("model", engine=engine, adapter="./lora", engine_options=ADDRESS)


def test_an_adapter_that_does_not_exist_is_named_before_vllm_starts(tmp_path):
    with pytest.raises(ModelLoadError, match="there is no folder"):
        NeuronAgreementDecoder("model", engine="vllm", adapter=tmp_path / "none")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_model_len": 4096}, r"engine_options\['max_model_len'\] of engine='hf': .* it has: compile"),
        ({"compile": "always"}, r"engine_options\['compile'\] of engine='hf'"),
        ({"compile": True}, "compile=True captures CUDA graphs, and the device is cpu; leave it out"),
    ],
)
def test_options_of_transformers_are_checked_before_a_model_is_looked_for(options, message):
    with pytest.raises(ConfigurationError, match=message):
        NeuronAgreementDecoder("no/such-model", device="cpu", engine_options=options)


@pytest.mark.parametrize("options", [{}, {"compile": "auto"}, {"compile": False}])
def test_a_cpu_takes_the_models_own_steps(options):
    decoder = NeuronAgreementDecoder(testing.tiny_model(), engine_options=options)
    assert decoder.decode("x", raw=True).text
    decoder.close()
