"""What a caller hears of what is wrong: status, parameter, and nothing of the inside."""

import asyncio
import json

import pytest
from nad_server import ServerSettings, create_app
from nad_server.errors import APIError
from nad_server.schema_limits import check_schema

from nad_agents import ConfigurationError, GenerationError
from nad_agents.testing import AcceptingVerifier, byte_tokenizer
from tests.unit.langchain.chats import tiny_decoder
from tests.unit.server.servers import CHAT, http, make_app

PATH = "/v1/chat/completions"
_JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def app():
    return make_app(max_candidates=8)


def nested(depth):
    schema = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema, "minItems": 100}
    return schema


def branching():
    names = [f"p{i}" for i in range(20)]
    node = {"type": "object", "properties": {n: {"$ref": "#/$defs/n"} for n in names}, "required": names}
    return {"$defs": {"n": node}, "$ref": "#/$defs/n"}


def shape(schema):
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"model": "other"}, 404, "model"),
        ({"model": "tiny@m=3"}, 400, "model"),
        ({"model": "tiny@n=x"}, 400, "model"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, 400, "messages.0.content"),
        ({"messages": [{"role": "user", "content": None}]}, 400, "messages.0.content"),
        ({"messages": [{"role": "tool", "tool_call_id": "c", "content": None}]}, 400, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": "\ud83d"}]}, 400, None),
        ({"messages": [{"role": "user", "content": "x" * 5000}]}, 400, "messages"),
        ({"top_k": -2}, 400, "top_k"),
        ({"tool_choice": {"type": "allowed_tools"}}, 400, "tool_choice.type"),
        ({"nad": {"selector": "knn", "selector_options": {"zz": 1}}}, 400, "nad.selector_options"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"temperature": -1}, 400, "temperature"),
        ({"top_p": 0}, 400, "top_p"),
        ({"n": 0}, 400, "n"),
        ({"n": 9}, 400, "n"),
        ({"n": 2, "temperature": 0}, 400, "n"),
        ({"n": 2, "nad": {"pruning": "first_chunk"}}, 400, "n"),
        ({"nad": {"n": 9}}, 400, "nad.n"),
        ({"nad": {"selector": "best"}}, 400, "nad.selector"),
        ({"nad": {"selector": "behaviour"}}, 400, "nad.selector"),
        ({"nad": {"selector_options": {"k": -1}}}, 400, "nad.selector_options"),
        ({"nad": {"pruning": "hard"}}, 400, "nad.pruning"),
        ({"nad": {"verify": True}}, 400, "nad.verify"),
        ({"nad": {"candidates": 3}}, 400, "nad.candidates"),
        ({"frequency_penalty": 0.5}, 400, "frequency_penalty"),
        ({"logit_bias": {"5": 1}}, 400, "logit_bias"),
        ({"top_logprobs": 3}, 400, "top_logprobs"),
        ({"audio": {"voice": "a"}}, 400, "audio"),
        ({"stop": ""}, 400, "stop"),
        ({"stop": ["a"] * 20}, 400, "stop"),
        ({"stop": ["a" * 200] * 2}, 400, "stop"),
        ({"seed": 2**70}, 400, "seed"),
        ({"tools": [{"type": "retrieval"}]}, 400, "tools.0.type"),
        ({"tool_choice": "required"}, 400, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": ""}}}, 400, "tool_choice.function.name"),
        ({"tool_choice": {"type": "function"}}, 400, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, 400, "tool_choice"),
        ({"response_format": {"type": "xml"}}, 400, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, 400, "response_format"),
        ({"response_format": shape({"type": 5})}, 400, "response_format.json_schema.schema"),
        ({"response_format": shape({"type": "nothing"})}, 400, "response_format"),
        ({"response_format": shape({"minLength": 10**12})}, 400, "response_format.json_schema.schema"),
        ({"response_format": shape(nested(12))}, 400, "response_format.json_schema.schema"),
        ({"response_format": shape(branching())}, 400, "response_format.json_schema.schema"),
    ],
)
async def test_a_wrong_request_is_told_its_parameter(app, change, status, param):
    async with http(app) as wire:
        # httpx writes UTF-8, which half a character cannot be, and the escape can
        answer = await wire.post(PATH, content=json.dumps({**CHAT, **change}), headers=_JSON)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param), error
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]


@pytest.mark.parametrize(
    ("content", "headers"),
    [(b"{", _JSON), (b"[]", _JSON), (b"\xff", _JSON), (b"", _JSON), (b"{}", {}), (b"[" * 50_000, _JSON)],
)
async def test_a_body_that_is_none(app, content, headers):
    async with http(app) as wire:
        answer = await wire.post(PATH, content=content, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_what_any_web_page_may_send_without_asking_is_no_request(app, kind):
    async with http(app) as wire:
        answer = await wire.post(PATH, content=json.dumps(CHAT), headers={"content-type": kind})
    assert answer.status_code == 400
    assert "application/json" in answer.json()["error"]["message"]


async def test_other_paths_and_methods_have_errors_of_the_same_form(app):
    async with http(app) as wire:
        nowhere, wrong = await wire.get("/v1/nowhere"), await wire.get(PATH)
    assert (nowhere.status_code, wrong.status_code) == (404, 405)
    assert nowhere.json()["error"]["message"]
    assert wrong.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/audio/speech", "/", "/api/chat", "/v1/messages"])
async def test_a_path_that_is_not_there_is_told_what_is(app, path):
    async with http(app) as wire:
        answer = await wire.post(path, json={})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (404, "not_found")
    for there in (PATH, "/v1/completions", "/v1/responses", "/v1/models"):
        assert there in error["message"]


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/chat/completions", PATH),
        ("/v1/v1/chat/completions", PATH),
        ("/responses", "/v1/responses"),
        ("/models", "/v1/models"),
        ("/api/v1/completions", "/v1/completions"),
    ],
)
async def test_a_base_url_without_v1_is_told_so(app, path, meant):
    async with http(app) as wire:
        answer = await wire.get(path)
    assert answer.status_code == 404
    assert f"there is {meant}; let the base URL of the client end in /v1" in answer.json()["error"]["message"]


async def test_an_answer_without_content_is_taken_back(app):
    earlier = [{"content": None}, {}, {"content": None, "refusal": "No."}, {"content": None, "tool_calls": []}]
    for message in earlier:
        messages = [*CHAT["messages"], {"role": "assistant", **message}, {"role": "user", "content": "again"}]
        async with http(app) as wire:
            answer = await wire.post(PATH, json={**CHAT, "messages": messages, "max_tokens": 2})
        assert answer.status_code == 200, answer.text


async def test_what_breaks_inside_stays_inside(app, monkeypatch, caplog):
    def broken(*args, **options):
        raise GenerationError("no memory at /home/someone/weights.bin")

    monkeypatch.setattr(app.state.server.decoder, "submit", broken)
    async with http(app) as wire:
        whole = await wire.post(PATH, json=CHAT)
        stream = await wire.post(PATH, json={**CHAT, "stream": True})
    assert whole.status_code == 500
    assert "someone" not in whole.text + stream.text
    assert "someone" in caplog.text
    # the status of a stream has been sent when it fails
    assert stream.status_code == 200
    assert '"type":"server_error"' in stream.text
    assert stream.text.endswith("data: [DONE]\n\n")


async def test_a_model_without_a_chat_template_names_no_folder():
    async with http(make_app(tokenizer=byte_tokenizer(chat_template=None))) as wire:
        answer = await wire.post(PATH, json=CHAT)
    assert answer.status_code == 400
    assert "/v1/completions" in answer.json()["error"]["message"]


async def test_the_prompt_may_be_limited_further():
    async with http(make_app(max_prompt_tokens=10)) as wire:
        answer = await wire.post(PATH, json=CHAT)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"


async def test_keys():
    app = make_app(api_keys=("first", "second"))
    async with http(app) as wire:
        for header in ({}, {"authorization": "Bearer third"}, {"authorization": "first"}, {"authorization": "Bearer "}):
            refused = await wire.get("/v1/models", headers=header)
            assert refused.status_code == 401
            assert refused.json()["error"]["code"] == "invalid_api_key"
        assert (await wire.get("/v1/models", headers={"authorization": "Bearer second"})).status_code == 200
        assert (await wire.get("/metrics")).status_code == 401
        assert (await wire.get("/health")).status_code == 200


@pytest.fixture(scope="module")
def named_app():
    return make_app(hosts=("127.0.0.1", "::1", "localhost"), ui=True)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("LOCALHOST", 200),
        ("localhost.:80", 200),
        ("[::1]:8000", 200),
        ("[::1]", 200),
        ("evil.example", 403),
        ("evil.example:8000", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example:8000", 403),
        ("localhost:8000:80", 403),
        ("localhost@evil.example", 403),
        ("192.168.0.5", 403),
        ("", 403),
    ],
)
async def test_a_strangers_name_for_this_machine_is_refused(named_app, host, status):
    async with http(named_app) as wire:
        for path in ("/v1/models", "/health", "/ui/", "/openapi.json"):
            answer = await wire.get(path, headers={"host": host})
            assert answer.status_code == status
            if status == 403:
                assert answer.json()["error"]["code"] == "host_not_allowed"


async def test_long_bodies_are_refused_with_and_without_their_length():
    async def chunks():
        for _ in range(20):
            yield b" " * 100
            await asyncio.sleep(0)

    async with http(make_app(max_body_bytes=1000)) as wire:
        told = await wire.post(PATH, content=b" " * 1001, headers=_JSON)
        untold = await wire.post(PATH, content=chunks(), headers=_JSON)
    assert (told.status_code, untold.status_code) == (413, 413)
    assert told.json()["error"]["code"] == "body_too_large"


def test_an_empty_key_or_a_second_verifier_is_refused():
    with pytest.raises(ValueError, match="let everybody in"):
        ServerSettings(api_keys=("",))
    with pytest.raises(ConfigurationError, match="create_app"):
        create_app(tiny_decoder(verifier=AcceptingVerifier()))


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {"type": ["string", "null"]},
        {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/a"}},
            "$defs": {"a": {"enum": [1]}},
            "required": ["a"],
        },
        {"$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"},
    ],
)
def test_usual_schemas_pass(schema):
    check_schema(schema, "schema")


@pytest.mark.parametrize(
    "schema", [5, {"properties": []}, {"properties": {"a": 5}}, {"required": [1]}, {"type": [1]}, {"enum": []}]
)
def test_malformed_schemas_are_refused(schema):
    with pytest.raises(APIError) as refused:
        check_schema(schema, "schema")
    assert refused.value.param == "schema"


@pytest.mark.parametrize(("chat", "response_template"), [(True, {"fields": 5}), (False, None)])
async def test_no_error_tells_where_the_model_lies(chat, response_template):
    tokenizer = byte_tokenizer() if chat else byte_tokenizer(chat_template=None)
    tokenizer.name_or_path = "/secret/place/tiny"
    tokenizer.response_template = response_template
    async with http(make_app(tokenizer=tokenizer)) as wire:
        for path, body in ((PATH, CHAT), ("/v1/responses", {"model": "tiny", "input": "hello"})):
            answer = await wire.post(path, json=body)
            assert answer.status_code == 400
            assert "secret" not in answer.text
