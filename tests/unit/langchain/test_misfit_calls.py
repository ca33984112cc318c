"""Calls whose arguments do not fit the tool's schema are invalid with the reason, whole, streamed and in agents."""

from functools import reduce
from operator import add as merged

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_nad import NADChatModel, NADStepSelection
from langchain_nad.messages import template_messages

from nad_agents.testing import ScriptedAnswer, ScriptedDecoder
from tests.unit.langchain.tools import add


def call(arguments):
    return f'<tool_call>{{"name": "add", "arguments": {arguments}}}</tool_call>'


def bound(*candidates):
    return NADChatModel(decoder=ScriptedDecoder(ScriptedAnswer(candidates))).bind_tools([add])


@pytest.mark.parametrize(
    ("arguments", "reason"), [('{"a": "one", "b": 2}', "a: 'one' is not of type 'integer'"), ('{"a": 1}', "'b' is")]
)
def test_the_reason_is_told(arguments, reason):
    message = bound(call(arguments)).invoke("1 + 2?")
    assert message.tool_calls == []
    (invalid,) = message.invalid_tool_calls
    assert (invalid["name"], invalid["args"]) == ("add", arguments)
    assert reason in invalid["error"]


def test_a_stream_has_no_call_either():
    full = reduce(merged, bound(call('{"a": "one", "b": 2}')).stream("1 + 2?"))
    assert full.tool_calls == []
    assert [invalid["name"] for invalid in full.invalid_tool_calls] == ["add"]


def test_a_number_in_quotes_is_a_number():
    for message in (
        bound(call('{"a": "1", "b": 2}')).invoke("1 + 2?"),
        *[reduce(merged, bound(call('{"a": "1", "b": 2}')).stream("1 + 2?"))],
    ):
        assert [(found["name"], found["args"]) for found in message.tool_calls] == [("add", {"a": 1, "b": 2})]


def test_the_model_sees_its_call_again_as_json():
    invalid = {"type": "invalid_tool_call", "id": "1", "name": "add", "args": '{"a": "one"}', "error": "no"}
    (_, answer) = template_messages([HumanMessage("1 + 2?"), AIMessage("", invalid_tool_calls=[invalid])])
    assert answer["content"] == '{"name": "add", "arguments": {"a": "one"}}'


def test_a_step_whose_call_fits_is_chosen():
    script = ScriptedAnswer([call('{"a": "one", "b": 2}'), call('{"a": 1}'), call('{"a": 1, "b": 2}')])
    model = NADChatModel(decoder=ScriptedDecoder(script, "3"))
    agent = create_agent(model, [add], middleware=[NADStepSelection()])
    messages = agent.invoke({"messages": [HumanMessage("1 + 2?")]})["messages"]
    assert messages[1].tool_calls[0]["args"] == {"a": 1, "b": 2}
    assert messages[2].content == "3"
