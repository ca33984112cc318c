"""Front ends over vLLM: structured output and tools are held to their grammars by vLLM itself."""

import json

import pytest
from langchain_core.messages import AIMessage
from langchain_nad import NADChatModel
from nad_server import ServerSettings, create_app
from pydantic import BaseModel
from starlette.testclient import TestClient

from nad_agents import ConfigurationError, NADConfig, NeuronAgreementDecoder
from nad_agents.constrained.decoding import make_processors
from nad_agents.constrained.grammar import json_grammar
from tests.vllm.conftest import CONFIG, SAMPLING

SCHEMA = {
    "type": "object",
    "properties": {"sure": {"type": "boolean"}, "kind": {"enum": ["a", "b"]}},
    "required": ["sure", "kind"],
}


class Answer(BaseModel):
    """An answer."""

    sure: bool
    kind: bool


def get_weather(raining: bool) -> str:
    """Say whether it rains."""
    return str(raining)


def test_candidates_are_held_to_a_schema(vllm):
    processors = make_processors(json_grammar(SCHEMA, "the answer"), vllm.loaded, 64)
    selection = vllm.decode(
        "hello", logits_processors=processors, sampling=SAMPLING.model_copy(update={"max_new_tokens": 64})
    )
    for candidate in selection.candidates:
        assert set(json.loads(candidate.text)) == {"sure", "kind"}
        assert candidate.finish_reason == "stop"
    assert len({candidate.text for candidate in selection.candidates}) > 1


def test_so_are_they_with_pruning(vllm):
    processors = make_processors(json_grammar(SCHEMA, "the answer"), vllm.loaded, 64)
    selection = vllm.decode(
        "hello",
        logits_processors=processors,
        sampling=SAMPLING.model_copy(update={"max_new_tokens": 64}),
        config=NADConfig(pruning="first_chunk", **CONFIG),
    )
    assert set(json.loads(selection.text)) == {"sure", "kind"}


def test_a_chat_model_answers_with_objects_and_calls(vllm):
    model = NADChatModel(decoder=vllm, max_tokens=96)
    assert isinstance(model.invoke("hello"), AIMessage)
    assert isinstance(model.with_structured_output(Answer).invoke("hello"), Answer)
    (call,) = model.bind_tools([get_weather], tool_choice="any").invoke("hello").tool_calls
    assert call["name"] == "get_weather"
    assert isinstance(call["args"]["raining"], bool)
    assert "".join(chunk.text for chunk in model.stream("hello", seed=3)) == model.invoke("hello", seed=3).text


def test_a_server_answers(vllm):
    app = create_app(vllm, ServerSettings(model_names=("tiny",)))
    ask = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "seed": 3, "max_tokens": 48}
    with TestClient(app) as client:
        plain = client.post("/v1/chat/completions", json={**ask, "logprobs": True, "top_logprobs": 0}).json()
        assert plain["choices"][0]["logprobs"]["content"][0]["logprob"] < 0
        shape = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
        shaped = client.post("/v1/chat/completions", json={**ask, "response_format": shape}).json()
        assert set(json.loads(shaped["choices"][0]["message"]["content"])) == {"sure", "kind"}
        lines = client.post("/v1/chat/completions", json={**ask, "stream": True, "nad": {"pruning": "first_chunk"}})
        assert lines.text.strip().endswith("data: [DONE]")
        assert client.get("/v1/models").json()["data"][0]["max_model_len"] == 512


def test_what_engines_do_not_take_is_refused_by_name(folder, vllm):
    with pytest.raises(ConfigurationError, match=r"no option 'max_model_length'; did you mean 'max_model_len'\?"):
        NeuronAgreementDecoder(folder, engine="vllm", engine_options={"max_model_length": 9})
    with pytest.raises(ConfigurationError, match="'dtype' of vLLM is set by nad_agents"):
        NeuronAgreementDecoder(folder, engine="vllm", engine_options={"dtype": "float32"})
    with pytest.raises(ConfigurationError, match="runs on 'cpu'"):
        NeuronAgreementDecoder(folder, engine="vllm", device="mps")
    with pytest.raises(ConfigurationError, match="'quantization'"):
        NeuronAgreementDecoder(folder, engine="vllm", dtype="int8")
