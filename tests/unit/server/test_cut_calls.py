"""A tool call that the token limit cuts is told as cut, and never as one that can be made."""

import json

import pytest
from nad_server import create_app

from nad_agents.testing import ScriptedAnswer, ScriptedDecoder
from tests.unit.server.servers import ADD, CHAT, http

WHOLE = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
CUT = WHOLE[: WHOLE.index(', "b"')]
ASKS = {
    "/v1/chat/completions": {"messages": CHAT["messages"], "tools": [ADD]},
    "/v1/responses": {"input": "hello", "tools": [{"type": "function", **ADD["function"]}]},
}


async def ask(path, text, finish_reason, **change):
    app = create_app(ScriptedDecoder(ScriptedAnswer([text], finish_reason=finish_reason)))
    async with http(app) as wire:
        answer = await wire.post(path, json={"model": "scripted", **ASKS[path], **change})
    assert answer.status_code == 200, answer.text
    return answer


def ends(answer):
    """Return the finish reasons of a stream of chat chunks."""
    data = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
    choices = [choice for chunk in map(json.loads, data) for choice in chunk["choices"]]
    return [choice["finish_reason"] for choice in choices if choice["finish_reason"]]


@pytest.mark.parametrize(
    ("text", "finish_reason", "told"),
    [
        (WHOLE, "stop", "tool_calls"),
        (CUT, "length", "length"),
        (CUT, "stop", "tool_calls"),
        (WHOLE + CUT, "length", "length"),
        ("I will add", "length", "length"),
    ],
)
async def test_chat_says_length_for_a_cut_call(text, finish_reason, told):
    whole = await ask("/v1/chat/completions", text, finish_reason)
    assert whole.json()["choices"][0]["finish_reason"] == told
    assert ends(await ask("/v1/chat/completions", text, finish_reason, stream=True)) == [told]


async def test_one_whole_call_is_enough_where_only_one_is_kept():
    answer = await ask("/v1/chat/completions", WHOLE + CUT, "length", parallel_tool_calls=False)
    (choice,) = answer.json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert [json.loads(call["function"]["arguments"]) for call in choice["message"]["tool_calls"]] == [{"a": 1, "b": 2}]


async def test_a_response_with_a_cut_call_is_incomplete():
    found = (await ask("/v1/responses", CUT, "length")).json()
    assert (found["status"], found["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert [item["status"] for item in found["output"] if item["type"] == "function_call"] == ["incomplete"]
    streamed = (await ask("/v1/responses", CUT, "length", stream=True)).text
    assert "event: response.incomplete" in streamed
    assert "event: response.completed" not in streamed
    both = (await ask("/v1/responses", WHOLE + CUT, "length")).json()
    assert [i["status"] for i in both["output"] if i["type"] == "function_call"] == ["completed", "incomplete"]
    whole = (await ask("/v1/responses", WHOLE, "stop")).json()
    assert (whole["status"], whole["output"][0]["status"]) == ("completed", "completed")


@pytest.mark.parametrize("path", ASKS)
async def test_the_arguments_of_a_cut_call_are_argument_text(path):
    found = (await ask(path, CUT, "length")).json()
    calls = [item["arguments"] for item in found.get("output", ()) if item["type"] == "function_call"]
    calls += [c["function"]["arguments"] for o in found.get("choices", ()) for c in o["message"]["tool_calls"]]
    assert calls == ['{"a": 1']
