"""Parameters that are known and not supported: never a silent 200, and what asks for nothing passes."""

import pytest
from nad_server.protocol import ChatRequest, CompletionRequest
from nad_server.protocol_responses import ResponsesRequest
from nad_server.unsupported_params import _HINTS, _NEUTRAL
from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import response_create_params

from tests.unit.server.servers import http, make_app

MINIMAL = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2},
    "/v1/completions": {"prompt": "hello", "max_tokens": 2},
    "/v1/responses": {"input": "hello", "max_output_tokens": 2},
}
CHAT, TEXT, RESPONSES = MINIMAL
CHANGE_NOTHING = {
    "metadata",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "user",
}
EVERYWHERE = [
    ("frequency_penalty", 0.5, 0.0),
    ("min_tokens", 3, 0),
    ("ignore_eos", True, False),
    ("prompt_logprobs", 1, None),
    ("guided_json", {"type": "object"}, None),
    ("guided_regex", "a+", None),
    ("structured_outputs", {"choice": ["a"]}, {}),
    ("stop_token_ids", [3], []),
    ("bad_words", ["x"], []),
    ("use_beam_search", True, False),
    ("length_penalty", 2.0, 1.0),
    ("repeat_penalty", 1.1, 1.0),
    ("grammar", "root ::= x", ""),
    ("n_predict", 5, None),
    ("thinking_budget", 5, None),
    ("think", True, None),
    ("thinking", {"type": "enabled"}, None),
    ("reasoning_budget", 256, -1),
    ("options", {"num_ctx": 5}, {}),
]


@pytest.fixture(scope="module")
def app():
    return make_app()


async def ask(app, path, change):
    async with http(app) as wire:
        return await wire.post(path, json={"model": "tiny", "nad": {"n": 2}, **MINIMAL[path], **change})


def refused(answer, param):
    error = answer.json().get("error", {})
    assert (answer.status_code, error.get("param"), error.get("code")) == (400, param, "unsupported_parameter"), error
    assert param in error["message"]


@pytest.mark.parametrize("path", MINIMAL)
@pytest.mark.parametrize(("name", "asks", "nothing"), EVERYWHERE)
async def test_what_asks_for_something_is_refused_and_what_asks_for_nothing_passes(app, path, name, asks, nothing):
    refused(await ask(app, path, {name: asks}), name)
    answer = await ask(app, path, {name: nothing})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("path", "change", "param"),
    [
        (CHAT, {"max_output_tokens": 5}, "max_output_tokens"),
        (CHAT, {"suffix": "x"}, "suffix"),
        (CHAT, {"best_of": 3}, "best_of"),
        (TEXT, {"max_completion_tokens": 5}, "max_completion_tokens"),
        (TEXT, {"chat_template_kwargs": {"enable_thinking": False}}, "chat_template_kwargs"),
        (TEXT, {"enable_thinking": True}, "enable_thinking"),
        (TEXT, {"response_format": {"type": "json_object"}}, "response_format"),
        (TEXT, {"messages": [{"role": "user", "content": "x"}]}, "messages"),
        (RESPONSES, {"prompt": {"id": "pmpt_1"}}, "prompt"),
        (RESPONSES, {"max_tokens": 5}, "max_tokens"),
        (RESPONSES, {"response_format": {"type": "json_object"}}, "response_format"),
        (RESPONSES, {"moderation": {"model": "m"}}, "moderation"),
    ],
)
async def test_what_belongs_to_an_endpoint(app, path, change, param):
    refused(await ask(app, path, change), param)


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (CHAT, {"verbosity": "medium", "metadata": {"a": "b"}, "suffix": "", "store": False}),
        (CHAT, {"user": "u", "prompt_cache_key": "k", "safety_identifier": "s", "cache_salt": "c", "request_id": "r"}),
        (CHAT, {"nobody_knows_it": {"a": [1]}}),
        (CHAT, {"top_k": -1}),
        (TEXT, {"echo": False, "tools": []}),
        (RESPONSES, {"text": {"verbosity": "medium"}, "reasoning": {"effort": "none", "summary": "auto"}}),
        (RESPONSES, {"include": ["reasoning.encrypted_content"], "truncation": "disabled", "logprobs": False}),
    ],
)
async def test_what_changes_nothing_passes(app, path, change):
    answer = await ask(app, path, change)
    assert answer.status_code == 200, answer.text


HINTS = [
    *((path, {"service_tier": tier}, "service_tier") for path in MINIMAL for tier in ("auto", "flex", "priority")),
    *((path, {"store": store}, "store") for path in MINIMAL for store in (True, False)),
    *((path, {"reasoning_effort": "low"}, "reasoning_effort") for path in MINIMAL),
    *((path, {"think": False}, "think") for path in MINIMAL),
    *((path, {"thinking": {"type": "disabled"}}, "thinking") for path in MINIMAL),
    *((path, {"enable_thinking": False}, "enable_thinking") for path in MINIMAL),
    *(
        (path, {name: 0}, name)
        for path in MINIMAL
        for name in ("reasoning_budget", "thinking_budget", "thinking_token_budget")
    ),
    *((path, {"include_reasoning": False}, "include_reasoning") for path in MINIMAL),
    *((path, {"frequency_penalty": 0}, "frequency_penalty") for path in MINIMAL),
    *((path, {"logit_bias": {}}, "logit_bias") for path in MINIMAL),
    *((path, {"repeat_penalty": 1.0}, "repeat_penalty") for path in MINIMAL),
    *((path, {"n_predict": -1}, "n_predict") for path in MINIMAL),
    (CHAT, {"verbosity": "low"}, "verbosity"),
    (CHAT, {"prediction": {"type": "content", "content": "x"}}, "prediction"),
    (CHAT, {"best_of": 1}, "best_of"),
    (CHAT, {"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    (TEXT, {"parallel_tool_calls": True}, "parallel_tool_calls"),
    (TEXT, {"response_format": {"type": "text"}}, "response_format"),
    (TEXT, {"reasoning": {"effort": "low"}}, "reasoning"),
    (RESPONSES, {"text": {"verbosity": "high"}}, "text.verbosity"),
    (RESPONSES, {"truncation": "auto"}, "truncation"),
    (RESPONSES, {"max_tool_calls": 3}, "max_tool_calls"),
]


@pytest.mark.parametrize(("path", "change", "param"), HINTS)
async def test_hints_and_what_asks_for_nothing_are_ignored_and_listed(app, path, change, param):
    answer = await ask(app, path, change)
    assert answer.status_code == 200, answer.text
    assert answer.json()["nad"]["ignored"] == [param]
    streamed = await ask(app, path, {**change, "stream": True})
    assert f'"ignored":["{param}"]' in streamed.text


@pytest.mark.parametrize("path", MINIMAL)
async def test_where_nothing_is_ignored_nothing_is_listed(app, path):
    answer = await ask(app, path, {"user": "u", "metadata": {"a": "b"}, "service_tier": None, "nobody_knows_it": 1})
    assert "ignored" not in answer.json()["nad"]


async def test_only_what_can_be_included_is(app):
    answer = await ask(app, RESPONSES, {"include": ["reasoning.encrypted_content", "web_search_call.action.sources"]})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "include.1"


@pytest.mark.parametrize(
    ("params", "request_type"),
    [
        (chat_create_params.CompletionCreateParamsBase, ChatRequest),
        (completion_create_params.CompletionCreateParamsBase, CompletionRequest),
        (response_create_params.ResponseCreateParamsBase, ResponsesRequest),
    ],
)
def test_every_parameter_of_openais_client_is_decided_on(params, request_type):
    fields = {name for kind in (ChatRequest, CompletionRequest, ResponsesRequest) for name in kind.model_fields}
    assert set(params.__annotations__) - fields - set(_NEUTRAL) - _HINTS - CHANGE_NOTHING == set()
    assert not set(request_type.model_fields) & set(_NEUTRAL)
