"""The responses endpoint: items in and out, and the order of its events."""

import json

import pytest
from nad_server.protocol_responses import ResponsesRequest, chat_messages
from nad_server.response_tools import offered_tools

from tests.unit.server.servers import http

ASK = {"model": "tiny", "input": "hello", "max_output_tokens": 24, "extra_body": {"seed": 3}}
ADD = {
    "type": "function",
    "name": "add",
    "description": "Add.",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer", "maximum": 99}},
        "required": ["a"],
        "additionalProperties": False,
    },
    "strict": True,
}


async def events(client, **body):
    return [event async for event in await client.responses.create(**{**ASK, **body}, stream=True)]


async def test_the_events_come_in_order_and_make_up_the_response(client):
    whole = await client.responses.create(**ASK, instructions="be brief")
    assert whole.output_text
    found = await events(client, instructions="be brief")
    names = [event.type for event in found]
    deltas = [event for event in found if event.type == "response.output_text.delta"]
    assert names == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * len(deltas),
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed" if whole.status == "completed" else "response.incomplete",
    ]
    assert len(deltas) > 5
    assert "".join(event.delta for event in deltas) == whole.output_text
    assert [event.sequence_number for event in found] == list(range(len(found)))
    # the second request finds the prompt of the first
    cached = found[-1].response.usage.input_tokens_details
    assert cached.cached_tokens == whole.usage.input_tokens - 1
    assert found[-1].response.usage.model_copy(update={"input_tokens_details": None}) == whole.usage.model_copy(
        update={"input_tokens_details": None}
    )
    assert found[-1].response.nad["winner"] == whole.nad["winner"]
    assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens


async def test_a_call_its_events_and_its_result(client):
    asked = {"tools": [ADD], "tool_choice": "required", "max_output_tokens": 60}
    whole = await client.responses.create(**{**ASK, **asked})
    (call,) = whole.output
    assert (call.type, call.name) == ("function_call", "add")
    assert set(json.loads(call.arguments)) == {"a"}
    found = await events(client, **asked)
    names = [event.type for event in found]
    assert names[2] == "response.output_item.added"
    assert names[-3:] == ["response.function_call_arguments.done", "response.output_item.done", "response.completed"]
    deltas = [event.delta for event in found if event.type == "response.function_call_arguments.delta"]
    assert "".join(deltas) == call.arguments
    # the item's call_id is one and the same from its first event to the response
    ids = {event.item.call_id for event in found if event.type.startswith("response.output_item")}
    assert ids == {found[-1].response.output[0].call_id}
    followed = await client.responses.create(
        **{
            **ASK,
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "hello"}]},
                {"type": "reasoning", "id": "r", "summary": []},
                call.model_dump(),
                {"type": "function_call_output", "call_id": call.call_id, "output": "4"},
            ],
        },
        tools=[ADD],
        store=False,
    )
    assert followed.status in {"completed", "incomplete"}


async def test_logprobs_belong_to_the_tokens_of_the_text(client):
    asked = {"include": ["message.output_text.logprobs"], "extra_body": {"seed": 3, "nad": {"pruning": "first_chunk"}}}
    whole = await client.responses.create(**{**ASK, **asked})
    (text,) = whole.output[0].content
    assert text.text.startswith("".join(entry.token for entry in text.logprobs[:3]))
    assert len(text.logprobs) > 5
    assert all(entry.logprob <= 0 for entry in text.logprobs)
    found = await events(client, **asked)
    streamed = [entry for e in found if e.type == "response.output_text.delta" for entry in e.logprobs]
    done = next(e for e in found if e.type == "response.output_text.done")
    for entries in (streamed, done.logprobs, found[-1].response.output[0].content[0].logprobs):
        assert [e.logprob for e in entries] == [e.logprob for e in text.logprobs]
    without = await client.responses.create(**ASK)
    assert without.output[0].content[0].logprobs == []


async def test_a_shape(client):
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    shape = {"format": {"type": "json_schema", "name": "x", "schema": schema}}
    found = await client.responses.create(**{**ASK, "max_output_tokens": 60}, text=shape)
    assert type(json.loads(found.output_text)["a"]) is bool


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"previous_response_id": "r"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, "tools.0.type"),
        ({"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}}, "tool_choice.type"),
        ({"tools": [{"type": "function"}]}, "tools.0"),
        ({"input": []}, "input"),
        ({"input": [{"type": "function_call"}]}, "input.0"),
        ({"input": [{"type": "function_call_output"}]}, "input.0"),
        ({"input": [{"type": "message", "role": "user"}]}, "input.0"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        ({"n": 2}, "n"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input"),
        ({"input": [{"type": "massage", "role": "user", "content": "x"}]}, "input.0.type"),
        ({"input": [{"type": "custom_tool_call", "call_id": "c"}]}, "input.0"),
        (
            {"instructions": "x", "input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input.0.content.0",
        ),
        (
            {"input": [{"type": "function_call_output", "call_id": "c", "output": [{"type": "input_file"}]}]},
            "input.0.output.0",
        ),
        ({"input": "x" * 5000}, "input"),
    ],
)
async def test_what_cannot_be_done_is_refused(app, change, param):
    async with http(app) as wire:
        answer = await wire.post("/v1/responses", json={"model": "tiny", "input": "hello", **change})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


NAMESPACES = [
    {"type": "namespace", "name": "files", "tools": [{**ADD, "name": "read"}, {"type": "custom", "name": "patch"}]},
    {"type": "namespace", "name": "mcp__web__", "tools": [{**ADD, "name": "read"}, {**ADD, "name": "fetch"}]},
    {"type": "web_search"},
]


async def test_a_function_of_a_namespace_is_called_there(app, client):
    asked = {**ASK, "max_output_tokens": 60, "tools": NAMESPACES}
    fetch = {"type": "function", "name": "fetch"}
    whole = await client.responses.create(**asked, tool_choice=fetch)
    (call,) = whole.output
    assert (call.namespace, call.name) == ("mcp__web__", "fetch")
    assert whole.nad["ignored"] == ["tools.0.tools.1 (custom)", "tools.2 (web_search)"]
    assert [tool.type for tool in whole.tools] == ["namespace", "namespace", "web_search"]
    found = await events(client, **asked, tool_choice=fetch)
    done = next(event for event in found if event.type == "response.function_call_arguments.done")
    assert done.name == "fetch"
    assert {e.item.namespace for e in found if e.type.startswith("response.output_item")} == {"mcp__web__"}
    # two functions of one name are told apart, for the model and in the history
    both = await client.responses.create(**asked, tool_choice={"type": "function", "name": "mcp__web__read"})
    assert (both.output[0].namespace, both.output[0].name) == ("mcp__web__", "read")
    body = ResponsesRequest(model="tiny", input=[{**both.output[0].model_dump(), "call_id": "c"}], tools=NAMESPACES)
    offered = offered_tools(body.tools, None)
    assert [tool.function.name for tool in offered.tools] == ["files__read", "mcp__web__read", "fetch"]
    ((message,), _) = chat_messages(body, offered)
    assert message.tool_calls[0].function.name == "mcp__web__read"


async def test_calls_of_other_kinds_are_read_and_what_is_kept_nowhere_is_left_out(app):
    items = [
        {"role": "user", "content": "hello"},
        {"type": "item_reference", "id": "msg_1"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}},
        {"type": "custom_tool_call", "call_id": "c1", "name": "apply_patch", "input": "*** Begin Patch"},
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "done"},
        {"type": "local_shell_call", "call_id": "c2", "status": "completed", "action": {"command": ["ls"]}},
        {"type": "local_shell_call_output", "id": "c2", "output": "a.py"},
        {"type": "shell_call", "call_id": "c3", "action": {"commands": ["ls"]}},
        {"type": "shell_call_output", "call_id": "c3", "output": [{"stdout": "a.py", "stderr": ""}]},
    ]
    async with http(app) as wire:
        answer = await wire.post("/v1/responses", json={"model": "tiny", "input": items, "max_output_tokens": 2})
    assert answer.status_code == 200, answer.text
    assert answer.json()["nad"]["ignored"] == ["input.1 (item_reference)", "input.2 (web_search_call)"]
    body = ResponsesRequest(model="tiny", input=items)
    messages, _ = chat_messages(body, offered_tools((), None))
    calls = [call.function for message in messages for call in message.tool_calls or ()]
    assert [(call.name, call.arguments) for call in calls] == [
        ("apply_patch", {"input": "*** Begin Patch"}),
        ("local_shell", {"command": ["ls"]}),
        ("shell", {"commands": ["ls"]}),
    ]
    results = [(m.tool_call_id, m.content) for m in messages if m.role == "tool"]
    assert results == [("c1", "done"), ("c2", "a.py"), ("c3", '[{"stdout": "a.py", "stderr": ""}]')]


async def test_a_failure_is_an_event(app, client, monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("inside")

    monkeypatch.setattr(app.state.server.decoder, "submit", broken)
    last = (await events(client))[-1]
    assert last.type == "response.failed"
    assert "inside" not in last.response.error.message
