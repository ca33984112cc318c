"""Messages rewritten so that a model's chat template takes them."""

from nad_agents.chat.messages import fit_template
from nad_agents.chat_template import template_source
from nad_agents.testing import byte_tokenizer

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": "é"}}}

ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}"
)


def strict_tokenizer(template):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def message(role, content, **fields):
    return {"role": role, "content": content, **fields}


TALK = [
    message("system", "s"),
    message("system", "t"),
    message("user", "a"),
    message("user", "b"),
    message("assistant", "c"),
    message("user", "d"),
]


class TestFitting:
    def test_as_it_is_where_the_template_takes_it(self):
        assert fit_template(byte_tokenizer(), TALK) == TALK

    def test_neighbours_are_joined_and_the_system_message_moves_where_it_must(self):
        found = fit_template(strict_tokenizer(ALTERNATING), TALK)
        assert [(m["role"], m["content"]) for m in found] == [
            ("user", "s\n\nt\n\na\n\nb"), ("assistant", "c"), ("user", "d"),
        ]  # fmt: skip
        assert len(TALK) == 6

    def test_the_decoder_reports_what_no_form_satisfies(self):
        refusing = strict_tokenizer("{{ raise_exception('never') }}")
        assert fit_template(refusing, TALK) == TALK

    def test_calls_and_results_are_never_joined(self):
        talk = [
            message("user", "a"),
            message("assistant", "", tool_calls=[CALL]),
            message("tool", "1", tool_call_id="c1"),
            message("tool", "2", tool_call_id="c1"),
            message("assistant", "x"),
            message("assistant", "y"),
        ]
        only = "{% if messages | length > 5 %}{{ raise_exception('too many') }}{% endif %}{{ messages }}"
        found = fit_template(strict_tokenizer(only), talk)
        assert [m["role"] for m in found] == ["user", "assistant", "tool", "tool", "assistant"]


def test_models_may_have_a_template_for_tools():
    tokenizer = strict_tokenizer({"default": "d", "tool_use": "t"})
    assert template_source(tokenizer, tools=False) == "d"
    assert template_source(tokenizer, tools=True) == "t"
    assert template_source(byte_tokenizer(chat_template=None), tools=True) is None
