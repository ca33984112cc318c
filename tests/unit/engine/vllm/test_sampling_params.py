"""What is asked of the library in the words of vLLM, and what vLLM has no word for."""

import json

import pytest

from nad_agents.constrained.structured_output import StructuredOutput
from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.vllm.request_options import EXTRA_ARG, RequestOptions
from nad_agents.engine.vllm.sampling_params import candidate_options, check_supported
from nad_agents.exceptions import ConfigurationError
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.types import SamplingConfig


def request(recording=None, logits_processors=(), **sampling):
    return GenerationRequest([1, 2], SamplingConfig(seed=1, **sampling), recording, logits_processors=logits_processors)


def test_every_option_of_sampling_has_its_counterpart():
    asked = request(
        RecordingConfig(top_k_neurons=9, layers=(1, 3)), temperature=0.6, top_p=0.9, top_k=20, min_p=0.1, stop=("\n",),
        repetition_penalty=1.2, max_new_tokens=7, generation_options={"min_new_tokens": 3},
    )  # fmt: skip
    options = candidate_options(asked, 77)
    assert json.loads(options.pop("extra_args")[EXTRA_ARG]) == {
        "record": True, "top_k_neurons": 9, "top_k_neurons_per_layer": 64, "layers": [1, 3], "key": "",
    }  # fmt: skip
    assert options == {
        "n": 1, "temperature": 0.6, "top_p": 0.9, "top_k": 20, "min_p": 0.1, "repetition_penalty": 1.2, "seed": 77,
        "stop": ["\n"], "detokenize": True, "skip_special_tokens": True, "max_tokens": 7, "min_tokens": 3,
        "logprobs": 0, "flat_logprobs": True,
    }  # fmt: skip


def test_greedy_decoding_filters_nothing():
    options = candidate_options(request(n=1, temperature=0.0, top_k=3, top_p=0.5), 1)
    assert (options["temperature"], options["top_k"], options["top_p"], options["min_p"]) == (0.0, 0, 1.0, 0.0)
    assert options["stop"] is None
    assert not options["detokenize"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (request(RecordingConfig("attribution")), "score='attribution' needs the model's weights"),
        (request(logits_processors=(object(),)), "object is a logits processor of transformers"),
        (request(logits_processors=(StructuredOutput("a"), StructuredOutput("b"))), "one grammar at a time"),
        (request(generation_options={"typical_p": 0.5}), "'typical_p' is one of transformers"),
    ],
)
def test_what_vllm_cannot_do_is_refused_by_name(asked, message):
    with pytest.raises(ConfigurationError, match=message):
        check_supported(asked)


def test_what_it_can_do_passes():
    check_supported(
        request(RecordingConfig(), (StructuredOutput("start: /a/"),), generation_options={"min_new_tokens": 2})
    )


def test_options_of_a_request_come_back_as_they_were():
    config = RecordingConfig(top_k_neurons=5, top_k_neurons_per_layer=3, layers=(0, 2))
    read = RequestOptions.parse(RequestOptions.of(config).model_dump_json())
    assert read.recording == config
    assert RequestOptions.parse(RequestOptions.of(None).model_dump_json()).recording is None


@pytest.mark.parametrize("text", ['{"top_k_neurons": 0}', "nonsense", 5, '{"neurons": 1}'])
def test_options_that_make_no_sense_are_named(text):
    assert isinstance(RequestOptions.parse(text), str)
