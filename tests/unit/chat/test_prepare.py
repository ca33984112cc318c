"""From a conversation to what the chat template gets, and verifiers that see content only."""

from nad_agents.chat.content_verifier import ContentVerifier
from nad_agents.chat.output_spec import OutputSpec
from nad_agents.chat.prepare import template_inputs
from nad_agents.chat.response_parser import ToolCallParser
from nad_agents.testing import AcceptingVerifier
from tests.tiny_models import byte_tokenizer
from tests.unit.langchain.tools import hermes_tokenizer

PARAMETERS = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
}
ADD = {"type": "function", "function": {"name": "add", "description": "Add two numbers.", "parameters": PARAMETERS}}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 3}}}
TALK = [
    {"role": "user", "content": "2 + 3?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "5", "tool_call_id": "c1"},
]
TOOLS = OutputSpec.from_arguments({"tools": [ADD]})


class TestPrompt:
    def test_a_template_that_knows_tools_gets_them(self):
        messages, shown = template_inputs(hermes_tokenizer(), TALK, TOOLS)
        assert [t["function"]["name"] for t in shown] == ["add"]
        assert messages == TALK

    def test_others_get_a_description_and_plain_text(self):
        messages, shown = template_inputs(byte_tokenizer(), TALK, TOOLS)
        assert shown == []
        assert [m["role"] for m in messages] == ["system", "user", "assistant", "user"]
        assert "Add two numbers." in messages[0]["content"]
        assert messages[2]["content"] == '{"name": "add", "arguments": {"a": 2, "b": 3}}'
        assert messages[3]["content"] == "add returned: 5"

    def test_an_answer_in_words_is_not_shown_calls(self):
        messages, _ = template_inputs(byte_tokenizer(), TALK, OutputSpec())
        assert [m["role"] for m in messages] == ["user", "user"]
        assert messages[1]["content"] == 'add({"a": 2, "b": 3}) returned: 5'

    def test_the_system_message_stays(self):
        messages, _ = template_inputs(byte_tokenizer(), [{"role": "system", "content": "Be kind."}], TOOLS)
        assert messages[0]["content"].startswith("Be kind.\n\nYou can use these tools:")


def test_a_content_verifier_lets_calls_pass_and_judges_the_rest():
    verifier = AcceptingVerifier("Yes.")
    judge = ContentVerifier(verifier, ToolCallParser(("add",)))
    call = '{"name": "add", "arguments": {"a": 2, "b": 3}}'
    assert judge.verify(call).to_dict() == {"passed": True, "feedback": "", "reason": "a tool call is not checked"}
    assert judge.fingerprint(call) == call
    assert not judge.verify("No.").passed
    assert judge.verify("Yes.").passed
    assert len(verifier.calls) == 2
