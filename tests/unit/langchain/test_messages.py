"""LangChain messages to what chat templates take."""

import pytest
from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_nad.messages import template_messages

from nad_agents import PromptError

CALL = {"name": "add", "args": {"a": 1, "b": "é"}, "id": "c1", "type": "tool_call"}


def test_roles_and_text():
    found = template_messages(
        [
            SystemMessage("s"),
            SystemMessage("d", additional_kwargs={"__openai_role__": "developer"}),
            HumanMessage("h", name="anna"),
            AIMessage("a"),
            ChatMessage("c", role="critic"),
        ]
    )
    assert [(m["role"], m["content"]) for m in found] == [
        ("system", "s"), ("system", "d"), ("user", "h"), ("assistant", "a"), ("critic", "c"),
    ]  # fmt: skip


def test_tool_calls_carry_objects_and_results_their_call():
    found = template_messages(
        [
            HumanMessage("h"),
            AIMessage([{"type": "text", "text": "let me"}, {"type": "tool_use", "id": "c1"}], tool_calls=[CALL]),
            ToolMessage([{"type": "text", "text": "3"}, {"type": "json", "json": {"x": "é"}}], tool_call_id="c1"),
            ToolMessage("no b", tool_call_id="c2", status="error", name="add"),
            ToolMessage("Error: no c", tool_call_id="c3", status="error"),
        ]
    )
    assert found[1]["content"] == "let me"
    call = found[1]["tool_calls"][0]
    assert call["function"] == {"name": "add", "arguments": {"a": 1, "b": "é"}}
    assert call["id"] == found[2]["tool_call_id"] == "c1"
    assert found[2]["content"] == '3\n{"x": "é"}'
    assert (found[3]["role"], found[3]["content"]) == ("tool", "Error: no b")
    assert found[4]["content"] == "Error: no c"


def test_what_an_answer_holds_beside_text_is_left_out():
    answer = AIMessage(
        [
            {"type": "reasoning", "reasoning": "hm"},
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": "a"},
            "b",
            {"type": "tool_call", **{k: CALL[k] for k in ("name", "args", "id")}},
        ]
    )
    assert template_messages([answer])[0]["content"] == "ab"
    assert template_messages([AIMessage([])])[0]["content"] == ""
    human = HumanMessage([{"type": "text", "text": "one"}, "two"])
    assert template_messages([human])[0]["content"] == "one\ntwo"


@pytest.mark.parametrize("kind", ["image_url", "image", "audio", "file", "input_audio", "video"])
def test_what_is_no_text_is_refused_by_name(kind):
    with pytest.raises(PromptError, match=f"human message has a content block of type '{kind}'"):
        template_messages([HumanMessage([{"type": "text", "text": "look"}, {"type": kind}])])


def test_a_call_that_could_not_be_read_goes_back_as_text():
    broken = {"name": "add", "args": '{"name": "add", "argu', "id": "c1", "error": "breaks off"}
    (message,) = template_messages([AIMessage("I add.", invalid_tool_calls=[broken])])
    assert message == {"role": "assistant", "content": 'I add.\n{"name": "add", "argu'}


def test_a_call_goes_back_with_its_name_where_its_arguments_are_known():
    broken = {"name": "add", "args": '{"a": 1, "b', "id": "c1", "error": "breaks off"}
    (message,) = template_messages([AIMessage("I add.", invalid_tool_calls=[broken])])
    assert message == {"role": "assistant", "content": 'I add.\n{"name": "add", "arguments": {"a": 1, "b'}
