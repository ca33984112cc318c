"""LangChain messages to what chat templates take."""

import pytest
from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_nad.messages import template_messages

from nad_agents import PromptError
from nad_agents.chat.messages import fit_template
from nad_agents.prompt import template_source
from nad_agents.testing import byte_tokenizer

CALL = {"name": "add", "args": {"a": 1, "b": "é"}, "id": "c1", "type": "tool_call"}


def strict_tokenizer(template):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}"
)


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


class TestFitting:
    talk = template_messages(
        [
            SystemMessage("s"),
            SystemMessage("t"),
            HumanMessage("a"),
            HumanMessage("b"),
            AIMessage("c"),
            HumanMessage("d"),
        ]
    )

    def test_as_it_is_where_the_template_takes_it(self):
        assert fit_template(byte_tokenizer(), self.talk) == self.talk

    def test_neighbours_are_joined_and_the_system_message_moves_where_it_must(self):
        found = fit_template(strict_tokenizer(ALTERNATING), self.talk)
        assert [(m["role"], m["content"]) for m in found] == [
            ("user", "s\n\nt\n\na\n\nb"), ("assistant", "c"), ("user", "d"),
        ]  # fmt: skip
        assert len(self.talk) == 6

    def test_the_decoder_reports_what_no_form_satisfies(self):
        refusing = strict_tokenizer("{{ raise_exception('never') }}")
        assert fit_template(refusing, self.talk) == self.talk

    def test_calls_and_results_are_never_joined(self):
        talk = template_messages(
            [
                HumanMessage("a"),
                AIMessage("", tool_calls=[CALL]),
                ToolMessage("1", tool_call_id="c1"),
                ToolMessage("2", tool_call_id="c1"),
                AIMessage("x"),
                AIMessage("y"),
            ]
        )
        only = "{% if messages | length > 5 %}{{ raise_exception('too many') }}{% endif %}{{ messages }}"
        found = fit_template(strict_tokenizer(only), talk)
        assert [m["role"] for m in found] == ["user", "assistant", "tool", "tool", "assistant"]


def test_models_may_have_a_template_for_tools():
    tokenizer = strict_tokenizer({"default": "d", "tool_use": "t"})
    assert template_source(tokenizer, tools=False) == "d"
    assert template_source(tokenizer, tools=True) == "t"
    assert template_source(byte_tokenizer(chat_template=None), tools=True) is None


def test_a_call_that_could_not_be_read_goes_back_as_text():
    broken = {"name": "add", "args": '{"name": "add", "argu', "id": "c1", "error": "breaks off"}
    (message,) = template_messages([AIMessage("I add.", invalid_tool_calls=[broken])])
    assert message == {"role": "assistant", "content": 'I add.\n{"name": "add", "argu'}
