"""What both engines over vLLM refuse, by what the workers say that they can record."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from nad_agents import ConfigurationError, PromptError, SamplingConfig, UnsupportedModelError
from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.served_model import ServedModel
from nad_agents.engine.vllm.engine import VLLMEngine
from nad_agents.engine.vllm.server_engine import VLLMServerEngine
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.rollouts import NeuronLayout
from nad_agents.selectors import get_selector
from tests.tiny_models import byte_tokenizer


def here(loaded, **described):
    core = SimpleNamespace(shutdown=lambda: None)
    return VLLMEngine(SimpleNamespace(engine_core=core, collective_rpc=lambda _: [described]), loaded)


def at_a_server(loaded, **described):
    return VLLMServerEngine(None, None, loaded, served_name="served", max_rows=1, **described)


@pytest.fixture(params=[here, at_a_server])
def make(request):
    def made(*, widths=(8, 16, 12), refusal="", signals=True):
        place = ("tiny", "server", Path(), 64, 512, (0,), "LlamaForCausalLM", "float32", "cpu", "vllm")
        loaded = ServedModel(byte_tokenizer(), *place)
        return request.param(loaded, widths=widths, refusal=refusal, signals=signals)

    return made


@pytest.mark.parametrize(
    ("recording", "layout"),
    [
        (None, NeuronLayout(0, 0)),
        (RecordingConfig(), NeuronLayout(3, 16)),
        (RecordingConfig(layers=(2, 3)), NeuronLayout(1, 12, 2)),
    ],
)
def test_the_neurons_are_numbered_by_the_widest_recorded_layer(make, recording, layout):
    assert make().records_neurons
    assert make().layout(recording) == layout


def test_layers_that_the_model_does_not_have(make):
    with pytest.raises(ConfigurationError, match=r"layers=\(1, 4\) does not fit a model of 3 layers; end at 3"):
        make().layout(RecordingConfig(layers=(1, 4)))


def test_a_model_that_cannot_be_recorded_generates_all_the_same(make):
    engine = make(widths=(), refusal="the model has experts")
    with pytest.raises(UnsupportedModelError, match="the model has experts"):
        engine.layout(RecordingConfig())
    engine.check(GenerationRequest((1, 2), SamplingConfig(seed=0, max_new_tokens=8)))


def test_a_selector_that_reads_signals_needs_workers_that_record_them(make):
    make().check_selector(get_selector("entropy"))
    engine = make(refusal="logprobs_mode hides them", signals=False)
    engine.check_selector(get_selector("knn"))
    with pytest.raises(ConfigurationError, match="'entropy' reads a signal of each token: logprobs_mode hides them"):
        engine.check_selector(get_selector("entropy"))


def test_what_does_not_fit_the_context_is_refused_before_anything_is_sent(make):
    assert make().context_length == 64
    with pytest.raises(PromptError, match="exceed the 64 tokens of tiny"):
        make().check(GenerationRequest((1,) * 60, SamplingConfig(seed=0, max_new_tokens=8)))
