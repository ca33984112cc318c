"""The examples' settings, and requests in the form in which coding assistants send them."""

import json
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.tiny_models import make_model
from tests.unit.server.servers import http, make_app

CLIENTS = Path(__file__).parents[3] / "examples" / "clients"
FUNCTION = {
    "name": "read_file",
    "description": "Read a file.",
    "parameters": {
        "type": "object",
        "properties": {"path": {"type": "string", "description": "Where it is."}},
        "required": ["path"],
        "additionalProperties": False,
        "$schema": "http://json-schema.org/draft-07/schema#",
    },
}
SYSTEM = {"role": "system", "content": "You are a coding assistant."}
CALLED = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "read_file", "arguments": '{"path":"a.py"}'}, "index": 0}
    ],
}

AIDER = {
    "model": "coder",
    "messages": [
        SYSTEM,
        {"role": "user", "content": "I want you to act as an expert software developer."},
        {"role": "assistant", "content": "Ok."},
        {"role": "user", "content": "add a docstring"},
    ],
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0,
    "max_tokens": 8,
}
CONTINUE = {
    "model": "coder",
    "messages": [SYSTEM, {"role": "user", "content": [{"type": "text", "text": "explain this"}]}],
    "max_tokens": 8,
    "temperature": 0.8,
    "stream": True,
    "tools": [{"type": "function", "function": FUNCTION}],
    "parallel_tool_calls": False,
    "nad": {"n": 3, "selector": "knn"},
}
CLINE = {
    "model": "coder@n=3,selector=knn",
    "messages": [
        SYSTEM,
        {"role": "user", "content": [{"type": "text", "text": "<task>fix</task>"}, {"type": "text", "text": "<env/>"}]},
    ],
    "temperature": 0.8,
    "max_tokens": 8,
    "stream": True,
    "stream_options": {"include_usage": True},
}
OPENCODE = {
    "model": "coder@n=3,selector=knn",
    "max_tokens": 8,
    "temperature": 0.8,
    "top_p": 1,
    "messages": [
        SYSTEM,
        {"role": "user", "content": "read it"},
        CALLED,
        {"role": "tool", "tool_call_id": "c1", "content": "x"},
    ],
    "tools": [{"type": "function", "function": FUNCTION}],
    "tool_choice": "auto",
    "stream": True,
    "stream_options": {"include_usage": True},
}
CODEX = {
    "model": "coder@n=3,selector=knn",
    "input": [
        {"type": "message", "id": "msg_1", "role": "developer", "content": [{"type": "input_text", "text": "agent"}]},
        {"type": "message", "id": "msg_2", "role": "user", "content": [{"type": "input_text", "text": "read it"}]},
        {"type": "reasoning", "summary": [], "content": None, "encrypted_content": None},
        {"type": "function_call", "name": "read_file", "arguments": '{"path":"a.py"}', "call_id": "c1"},
        {"type": "function_call_output", "call_id": "c1", "output": "x"},
    ],
    "tools": [{"type": "function", "strict": False, **FUNCTION}],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "0199",
    "client_metadata": {"installation": "x"},
    "max_output_tokens": 8,
}


@pytest.fixture(scope="module")
def app():
    model = make_model("llama", max_position_embeddings=8192)
    return make_app(model=model, model_names=("coder",))


@pytest.mark.parametrize("body", [AIDER, CONTINUE, CLINE, OPENCODE], ids=["aider", "continue", "cline", "opencode"])
async def test_chat_clients_get_a_whole_stream(app, body):
    async with http(app) as wire:
        answer = await wire.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    parts = answer.text.split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]
    ends = [c for c in chunks if c["choices"] and c["choices"][0]["finish_reason"]]
    assert len(ends) == 1
    assert ends[0]["nad"]["n"] == (1 if body is AIDER else 3)
    if "stream_options" in body:
        assert chunks[-1]["usage"]["completion_tokens"] > 0


async def test_codex_gets_its_events(app):
    async with http(app) as wire:
        answer = await wire.post("/v1/responses", json=CODEX)
    assert answer.status_code == 200, answer.text
    frames = [frame.split("\n") for frame in answer.text.strip().split("\n\n")]
    names = [head.removeprefix("event: ") for head, _ in frames]
    assert names[0] == "response.created"
    assert names[-1] in {"response.completed", "response.incomplete"}
    assert [json.loads(data.removeprefix("data: "))["type"] for _, data in frames] == names


def test_the_settings_are_readable_and_name_the_same_server():
    codex = tomllib.loads((CLIENTS / "codex.toml").read_text())
    opencode = json.loads((CLIENTS / "opencode.json").read_text())
    kept = {name: yaml.safe_load((CLIENTS / name).read_text()) for name in ("continue.yaml", "aider.conf.yml")}
    (llm,) = yaml.safe_load((CLIENTS / "llm-extra-openai-models.yaml").read_text())
    urls = {
        codex["model_providers"][codex["model_provider"]]["base_url"],
        opencode["provider"]["nad"]["options"]["baseURL"],
        kept["continue.yaml"]["models"][0]["apiBase"],
        kept["aider.conf.yml"]["openai-api-base"],
        llm["api_base"],
    }
    assert urls == {"http://127.0.0.1:8000/v1"}
    assert "http://127.0.0.1:8000/v1" in (CLIENTS / "cline.md").read_text()


async def test_the_names_in_the_settings_are_understood(app):
    async with http(app) as wire:
        for name in ("coder", "coder@n=8,selector=knn", "coder@n=16,selector=medoid"):
            assert (await wire.get(f"/v1/models/{name}")).status_code == 200
