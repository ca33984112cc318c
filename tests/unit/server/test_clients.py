"""The examples' settings, and requests in the form in which coding assistants send them."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.unit.langchain.chats import one_layer_model
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


def tools(*names, description="Read a file."):
    return [{"type": "function", "function": {**FUNCTION, "name": name, "description": description}} for name in names]


AIDER = {
    "model": "coder",
    "messages": [
        SYSTEM,
        {"role": "user", "content": "I want you to act as an expert software developer."},
        {"role": "assistant", "content": "Ok."},
        {"role": "user", "content": "add a docstring"},
    ],
    "stream": True,
    "temperature": 0,
    "max_tokens": 8,
}
# what .aider.model.settings.yml adds
AIDER_WITH_OPTIONS = {**AIDER, "temperature": 0.8, "nad": {"n": 3, "selector": "knn"}}
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
# no temperature, no top_p; a request for the conversation's title comes first
OPENCODE_TITLE = {
    "model": "coder@n=3,selector=knn",
    "max_tokens": 8,
    "messages": [
        {"role": "system", "content": "You are a title generator. You output ONLY a thread title."},
        {"role": "user", "content": "Generate a title for this conversation:\n"},
        {"role": "user", "content": "read it"},
    ],
    "stream": True,
    "stream_options": {"include_usage": True},
}
OPENCODE_TOOLS = ("bash", "read", "glob", "grep", "edit", "write", "task", "webfetch", "todowrite", "skill")
OPENCODE = {
    "model": "coder@n=3,selector=knn",
    "max_tokens": 8,
    "messages": [SYSTEM, {"role": "user", "content": "read it"}],
    # with the instructions about 7,560 tokens
    "tools": tools(*OPENCODE_TOOLS, description="x" * 480),
    "tool_choice": "auto",
    "stream": True,
    "stream_options": {"include_usage": True},
}
OPENCODE_RESULT = {
    **OPENCODE,
    "messages": [*OPENCODE["messages"], CALLED, {"role": "tool", "tool_call_id": "c1", "content": "x"}],
}
CODEX_TOOLS = (
    "exec_command",
    "write_stdin",
    "update_plan",
    "request_user_input",
    "view_image",
    "list_mcp_resources",
    "read_mcp_resource",
)


def item(role, number, *texts):
    content = [{"type": "input_text", "text": text} for text in texts]
    return {"type": "message", "id": f"msg_{number}", "role": role, "content": content}


# no max_output_tokens
CODEX = {
    "model": "coder@n=3,selector=knn",
    "instructions": "You are a coding agent.",
    "input": [
        item("developer", 1, "<permissions instructions>"),
        item("developer", 2, "<collaboration_mode>"),
        item("user", 3, "<environment_context>"),
        item("user", 4, "read it"),
    ],
    "tools": [{"type": "function", "strict": False, **FUNCTION, "name": name} for name in CODEX_TOOLS],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "0199",
    "client_metadata": {"x-codex-installation-id": "x", "session_id": "0199"},
}
CODEX_RESULT = {
    **CODEX,
    "input": [
        *CODEX["input"],
        {"type": "reasoning", "summary": [], "content": None, "encrypted_content": None},
        {"type": "function_call", "name": "exec_command", "arguments": '{"path":"a.py"}', "call_id": "c1"},
        {"type": "function_call_output", "call_id": "c1", "output": "x"},
    ],
}


@pytest.fixture(scope="module")
def app():
    model = one_layer_model(max_position_embeddings=32768)
    return make_app(model=model, model_names=("coder",), max_tokens=8)


CHATS = {
    "aider": (AIDER, 1),
    "aider with options": (AIDER_WITH_OPTIONS, 3),
    "continue": (CONTINUE, 3),
    "cline": (CLINE, 3),
    "opencode's title": (OPENCODE_TITLE, 3),
    "opencode": (OPENCODE, 3),
    "opencode's result": (OPENCODE_RESULT, 3),
}


@pytest.mark.parametrize(("body", "candidates"), CHATS.values(), ids=CHATS)
async def test_chat_clients_get_a_whole_stream(app, body, candidates):
    async with http(app) as wire:
        answer = await wire.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    parts = answer.text.split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]
    ends = [c for c in chunks if c["choices"] and c["choices"][0]["finish_reason"]]
    assert len(ends) == 1
    assert ends[0]["nad"]["n"] == candidates
    # a client that did not ask for the usage may stumble over a chunk without choices
    asked = "stream_options" in body
    assert [chunk for chunk in chunks if not chunk["choices"]] == ([chunks[-1]] if asked else [])
    assert all(("usage" in chunk) is asked for chunk in chunks)
    if asked:
        assert chunks[-1]["usage"]["completion_tokens"] > 0


async def test_opencode_fits_no_context_of_7k_and_is_told_so_before_anything_is_streamed():
    model = one_layer_model(max_position_embeddings=7168)
    async with http(make_app(model=model, model_names=("coder",))) as wire:
        first = await wire.post("/v1/chat/completions", json={**OPENCODE_TITLE, "max_tokens": 8})
        answer = await wire.post("/v1/chat/completions", json={**OPENCODE, "max_tokens": 1024})
    assert first.status_code == 200
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "context_length_exceeded"
    prompt = int(re.search(r"asked for (\d+) in the messages", error["message"])[1])
    assert 7_400 < prompt < 7_700
    assert "7168 tokens" in error["message"]


# what Codex offers when nothing is switched off, and a turn after a patch
CODEX_DEFAULT = {
    **CODEX,
    "tools": [
        *CODEX["tools"][:4],
        {
            "type": "custom",
            "name": "apply_patch",
            "description": "Edit.",
            "format": {"type": "grammar", "syntax": "lark"},
        },
        {"type": "web_search", "external_web_access": True},
        {"type": "local_shell"},
        {"type": "namespace", "name": "mcp__docs", "description": "Docs.", "tools": CODEX["tools"][4:]},
    ],
    "reasoning": {"effort": "medium", "summary": "auto"},
    "text": {"verbosity": "low"},
    "service_tier": "priority",
    "input": [
        *CODEX["input"],
        {"type": "item_reference", "id": "rs_1"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": "*** Begin Patch"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "Done!"},
    ],
}


async def test_codex_is_told_which_of_its_tools_are_not_offered(app):
    async with http(app) as wire:
        answer = await wire.post("/v1/responses", json={**CODEX_DEFAULT, "stream": False})
    assert answer.json()["nad"]["ignored"] == [
        "store",
        "service_tier",
        "text.verbosity",
        "reasoning.effort",
        "tools.4 (custom)",
        "tools.5 (web_search)",
        "tools.6 (local_shell)",
        "input.4 (item_reference)",
    ]


@pytest.mark.parametrize("body", [CODEX, CODEX_RESULT, CODEX_DEFAULT], ids=["first", "result", "default tools"])
async def test_codex_gets_its_events(app, body):
    async with http(app) as wire:
        answer = await wire.post("/v1/responses", json=body)
    assert answer.status_code == 200, answer.text
    frames = [frame.split("\n") for frame in answer.text.strip().split("\n\n")]
    names = [head.removeprefix("event: ") for head, _ in frames]
    contents = [json.loads(data.removeprefix("data: ")) for _, data in frames]
    assert names[0] == "response.created"
    # without a limit of the request's own, the server's ends the answer
    assert names[-1] in {"response.completed", "response.incomplete"}
    assert [content["type"] for content in contents] == names
    last = contents[-1]["response"]
    assert last["nad"]["n"] == 3
    assert last["max_output_tokens"] is None
    assert 0 < last["usage"]["output_tokens"] <= 8
    assert len(last["tools"]) == len(body["tools"])


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
