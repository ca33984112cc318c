"""The body of a request is what OpenAI's protocol says, whatever chat templates prefer."""

import json

import pytest
from openai.types.chat import ChatCompletionMessageParam
from pydantic import TypeAdapter

from nad_agents import ConfigurationError, SamplingConfig
from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.openai.request_body import check_supported, request_body

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
MESSAGES = TypeAdapter(list[ChatCompletionMessageParam])


def body(conversation, *, sampling=None, tools=(), raw=False, logprobs=True):
    sampling = sampling or SamplingConfig(n=2, seed=3, max_new_tokens=9)
    request = GenerationRequest(
        prompt="hello", prompt_ids=(1,), sampling=sampling, conversation=conversation, tools=tools, raw=raw
    )
    check_supported(request)
    return request_body(request, 2**62 + 5, model="m", logprobs=logprobs, top_logprobs=0)


def test_calls_of_an_earlier_turn_have_their_arguments_as_text():
    call = {"id": "a", "type": "function", "function": {"name": "look", "arguments": {"place": "Zürich"}}}
    conversation = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "rain", "tool_call_id": "a"},
    ]
    sent = body(conversation, tools=[TOOL])
    MESSAGES.validate_python(sent["messages"])
    (written,) = sent["messages"][1]["tool_calls"]
    assert json.loads(written["function"]["arguments"]) == {"place": "Zürich"}
    assert written["id"] == sent["messages"][2]["tool_call_id"]
    assert sent["tools"] == [TOOL]
    # the caller's conversation stays as it is
    assert call["function"]["arguments"] == {"place": "Zürich"}


def test_arguments_that_are_text_already_stay():
    call = {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    sent = body([{"role": "assistant", "content": "", "tool_calls": [call]}])
    assert sent["messages"][0]["tool_calls"][0]["function"]["arguments"] == "{}"


def test_log_probabilities_and_the_seed_are_asked_for_as_each_endpoint_takes_them():
    chat, text = body("hello"), body("hello", raw=True)
    assert chat["logprobs"] is True
    assert text["logprobs"] == 0
    assert text["prompt"] == "hello"
    assert chat["messages"] == [{"role": "user", "content": "hello"}]
    assert chat["seed"] == text["seed"] == 5
    assert "logprobs" not in body("hello", logprobs=False)


def test_options_of_transformers_are_refused_by_name():
    with pytest.raises(ConfigurationError, match="'typical_p' is one of transformers"):
        body("hello", sampling=SamplingConfig(n=2, seed=3, generation_options={"typical_p": 0.5}))
