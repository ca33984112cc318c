"""What an engine cannot do is refused before its packages are imported, or a server is asked."""

import pytest

from nad_agents import ConfigurationError, NeuronAgreementDecoder
from nad_agents.exceptions import ModelLoadError

ADDRESS = {"base_url": "http://127.0.0.1:9"}


@pytest.mark.parametrize("engine", ["openai", "vllm"])
def test_an_adapter_is_loaded_by_the_server_that_is_to_run_it(engine):
    with pytest.raises(ConfigurationError, match=r"load it there.* --lora-modules NAME=\./lora.*'served_name': 'NAME'"):
        NeuronAgreementDecoder("model", engine=engine, adapter="./lora", engine_options=ADDRESS)


def test_an_adapter_that_does_not_exist_is_named_before_vllm_starts(tmp_path):
    with pytest.raises(ModelLoadError, match="there is no folder"):
        NeuronAgreementDecoder("model", engine="vllm", adapter=tmp_path / "none")
