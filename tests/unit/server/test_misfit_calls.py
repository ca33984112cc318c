"""Calls that do not fit the tool's schema reach clients as the model wrote them; certain slips are mended."""

import json

import pytest
from nad_server import create_app

from nad_agents.testing import ScriptedAnswer, ScriptedDecoder
from tests.unit.server.servers import ADD, CHAT, http

ASKS = {
    "/v1/chat/completions": {"messages": CHAT["messages"], "tools": [ADD]},
    "/v1/responses": {"input": "hello", "tools": [{"type": "function", **ADD["function"]}]},
}


async def answered(path, arguments, *, stream=False):
    text = f'<tool_call>\n{{"name": "add", "arguments": {arguments}}}\n</tool_call>'
    async with http(create_app(ScriptedDecoder(ScriptedAnswer([text])))) as wire:
        return await wire.post(path, json={"model": "scripted", "stream": stream, **ASKS[path]})


def calls(found):
    items = [(item["name"], item["arguments"]) for item in found.get("output", ()) if item["type"] == "function_call"]
    functions = [call["function"] for choice in found.get("choices", ()) for call in choice["message"]["tool_calls"]]
    return items + [(function["name"], function["arguments"]) for function in functions]


@pytest.mark.parametrize("path", ASKS)
@pytest.mark.parametrize("arguments", ['{"a": "one", "b": 2}', '{"a": 1}', '{"a": 1, "b": null}'])
async def test_arguments_that_do_not_fit_are_the_clients_to_refuse(path, arguments):
    found = (await answered(path, arguments)).json()
    assert calls(found) == [("add", arguments)]
    assert found.get("status", "completed") == "completed"
    assert [choice["finish_reason"] for choice in found.get("choices", ())] in ([], ["tool_calls"])


@pytest.mark.parametrize("path", ASKS)
async def test_a_number_in_quotes_is_a_number(path):
    ((_, arguments),) = calls((await answered(path, '{"a": "1", "b": "2"}')).json())
    assert json.loads(arguments) == {"a": 1, "b": 2}


async def test_a_stream_has_the_same_arguments():
    answer = await answered("/v1/chat/completions", '{"a": "one", "b": 2}', stream=True)
    data = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    deltas = [call for chunk in data for choice in chunk["choices"] for call in choice["delta"].get("tool_calls") or ()]
    assert "".join(call["function"].get("arguments") or "" for call in deltas) == '{"a": "one", "b": 2}'
