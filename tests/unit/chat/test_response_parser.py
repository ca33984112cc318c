"""Answers read by the response template that a tokenizer brings: text, thinking, calls, whole and while they grow."""

from functools import reduce
from itertools import pairwise
from operator import add as merged

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_nad.messages import template_messages
from langchain_nad.tools import openai_tools

from nad_agents import ConfigurationError
from nad_agents.chat.output_spec import OutputSpec
from nad_agents.chat.prepare import template_inputs
from nad_agents.chat.response_parser import TemplateResponseParser, ToolCallParser
from nad_agents.testing import AcceptingVerifier
from tests.unit.chat.templates import JSON, TAGS, Writes, templated
from tests.unit.langchain.chats import one_layer_model, tiny_chat, tiny_decoder
from tests.unit.langchain.streams import outline, streamed
from tests.unit.langchain.tools import add, now

TOOLS = OutputSpec.from_arguments({"tools": openai_tools([add, now])})


def parser(template=TAGS, prefix="[user]hello\n[assistant]", tools=TOOLS.tools):
    return TemplateResponseParser(templated(template), prefix, tools)


def test_text_thinking_and_calls_are_told_apart():
    found = parser().parse("<think>\nHm.</think>\n\nI add. <call:add><a=1><b=2></call>\n<call:now></call>\n")
    assert (found.content, found.thinking, found.invalid) == ("I add.", "Hm.", ())
    # the tool's schema says what is a number
    assert [(call.name, call.arguments) for call in found.calls] == [("add", {"a": 1, "b": 2}), ("now", {})]
    assert found.calls[0].id != found.calls[1].id


def test_the_prompt_may_have_opened_the_thinking():
    opened = parser(prefix="[user]<call:add>\n[assistant]<think>\n")
    assert (opened.parse("Hm.</think>Yes.").thinking, opened.parse("Hm.</think>Yes.").content) == ("Hm.", "Yes.")
    assert opened.stable_prefix("Hm.").thinking == "Hm."
    assert opened.stable_prefix("Hm.").content == ""


@pytest.mark.parametrize(
    ("text", "error", "name"),
    [
        ('I call <|call|>{"name": "add", "arg<|/call|> now.', "could not parse", "add"),
        ('I call <|call|>{"name": "add", "argum', "could not parse", "add"),
        ("I call <|call|>[1, 2]<|/call|> now.", "needs a name", None),
        ('I call <|call|>{"name": "add", "arguments": [1]}<|/call|>', "no JSON object", "add"),
    ],
)
def test_what_cannot_be_read_is_an_invalid_call(text, error, name):
    found = parser(JSON).parse(text)
    assert found.calls == ()
    assert found.content.split()[:2] == ["I", "call"]
    assert {call.name for call in found.invalid} == {name}
    assert all(error in call.error for call in found.invalid)


def test_good_calls_around_a_broken_one_are_kept():
    good = '<|call|>{"name": "now", "arguments": {}}<|/call|>'
    found = parser(JSON).parse(f"A{good}<|call|>nonsense<|/call|>B{good}")
    assert (found.content, len(found.calls), len(found.invalid)) == ("AB", 2, 1)
    assert found.invalid[0].text == "nonsense"


def test_without_tools_everything_is_text():
    assert parser(tools=()).parse("So <call:add><a=1></call>!").content == "So<a=1>!"
    assert parser(tools=()).parse("So <call:add><a=1></call>!").calls == ()


def test_a_field_that_has_to_be_there_may_be_missing():
    template = {**TAGS, "fields": {**TAGS["fields"], "content": {"content": "text", "optional": False}}}
    assert parser(template).parse("<think>Hm") == parser().parse("<think>Hm")


TEXTS = [
    "Plain words, 1 < 2, <b>.",
    "<think>Hm. 1 < 2.</think>So: yes.\n",
    "<think>Hm.</think>I add. <call:add><a=1><b=2></call> Then: <call:now></call>\n",
    "I add. <call:add><a=1",
    "<thi",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_stream_adds_up_to_the_message(text, selection):
    chunks, whole = streamed(text, TOOLS, selection, parser())
    full = reduce(merged, chunks)
    assert full.content == whole.content
    assert full.additional_kwargs == whole.additional_kwargs
    assert outline(full.tool_calls) == outline(whole.tool_calls)
    assert chunks[-1].chunk_position == "last"


@pytest.mark.parametrize("text", [*TEXTS, "A <call:add><a=1></call> B <think>C"])
def test_what_is_certain_stays(text):
    seen = [parser().stable_prefix(text[:end]) for end in range(len(text) + 1)]
    for earlier, later in pairwise([*seen, parser().parse(text)]):
        assert later.content.startswith(earlier.content)
        assert later.thinking.startswith(earlier.thinking)


def test_after_something_unreadable_the_rest_comes_with_the_whole(selection):
    text = "I call <|call|>nonsense<|/call|> now."
    chunks, whole = streamed(text, TOOLS, selection, parser(JSON))
    full = reduce(merged, chunks)
    assert full.content == whole.content == "I call  now."
    assert len(full.invalid_tool_calls) == 1


BAD = [{}, {"fields": 3}, {**TAGS, "version": 9}, {**TAGS, "fields": {"a": {"open": ""}}}]


@pytest.mark.parametrize("template", BAD)
def test_a_template_that_transformers_does_not_understand(template):
    with pytest.raises(ConfigurationError, match=r"the response template of .* cannot be used: .*set it to None"):
        parser(template)


def test_tools_go_into_a_template_whose_answers_can_be_read():
    talk = template_messages(
        [
            HumanMessage("2 + 3?"),
            AIMessage("", tool_calls=[{"name": "add", "args": {"a": 2, "b": 3}, "id": "c1"}]),
            ToolMessage("5", tool_call_id="c1"),
        ]
    )
    messages, shown = template_inputs(templated(TAGS), talk, TOOLS)
    assert messages == talk
    assert len(shown) == 2
    # without a response template nobody knows how such a model writes its calls
    assert template_inputs(templated(None), talk, TOOLS)[1] == []


def writing_chat(text, **options):
    """A chat whose random model writes a given text, special tokens included."""
    tokenizer = templated(JSON, "<|think|>", "<|/think|>", "<|call|>", "<|/call|>", "<|unseen|>")
    model = one_layer_model(max_position_embeddings=2048, vocab_size=len(tokenizer))
    decoder = tiny_decoder(model=model, tokenizer=tokenizer)
    submit, ids = decoder.submit, tokenizer(text)["input_ids"]

    def written(*args, logits_processors=None, **more):
        return submit(*args, logits_processors=logits_processors or (lambda: [Writes(ids)]), **more)

    decoder.submit = written
    return tiny_chat(decoder=decoder, max_tokens=200, **options)


ANSWER = '<|think|>Add.<|/think|><|unseen|>I add.<|call|>{"name": "add", "arguments": {"a": 2, "b": 3}}<|/call|>'


class TestChat:
    @pytest.mark.parametrize("output_version", [None, "v1"])
    def test_special_tokens_that_the_template_looks_for_are_seen(self, output_version):
        bound = writing_chat(ANSWER, output_version=output_version, n=2).bind_tools([add])
        message = bound.invoke("2 + 3?", include_candidates=True)
        assert message.text == "I add."
        assert outline(message.tool_calls) == [("add", {"a": 2, "b": 3})]
        assert [block["type"] for block in message.content_blocks] == ["reasoning", "text", "tool_call"]
        assert message.content_blocks[0]["reasoning"] == "Add."
        for candidate in message.response_metadata["nad"]["candidates"]:
            assert outline(candidate["message"]["tool_calls"]) == [("add", {"a": 2, "b": 3})]

    @pytest.mark.parametrize("output_version", [None, "v1"])
    def test_the_stream_is_the_same(self, output_version):
        chat = writing_chat(ANSWER, output_version=output_version, n=2, pruning="first_chunk", chunk_size=4)
        bound = chat.bind_tools([add])
        chunks = list(bound.stream("2 + 3?"))
        full, whole = reduce(merged, chunks), bound.invoke("2 + 3?")
        assert full.text == whole.text
        assert outline(full.tool_calls) == outline(whole.tool_calls)
        assert [b["type"] for b in full.content_blocks] == ["reasoning", "text", "tool_call"]
        assert full.content_blocks[0]["reasoning"] == "Add."
        assert len(chunks) > 8

    def test_a_verifier_sees_no_thinking(self):
        verifier = AcceptingVerifier("Yes.")
        message = writing_chat("<|think|>Hm.<|/think|>Yes.", verifier=verifier, n=2).invoke("Really?")
        assert message.response_metadata["nad"]["verification"]["passed"] is True
        assert len(verifier.calls) == 1
        assert message.additional_kwargs == {"reasoning_content": "Hm."}

    def test_a_grammar_writes_calls_that_the_family_reads(self):
        chat = writing_chat(ANSWER, n=2)
        message = chat.bind_tools([add], tool_choice="any").invoke("hello")
        assert set(message.tool_calls[0]["args"]) == {"a", "b"}


def test_a_family_without_tools_reads_nothing():
    assert ToolCallParser().parse('{"name": "add"}').content == '{"name": "add"}'
    assert ToolCallParser().stable_prefix("<tool_call>").content == "<tool_call>"


CALL = '{"name": "now", "arguments": {}}'


@pytest.mark.parametrize("names", [(), ("now",)])
@pytest.mark.parametrize(
    ("text", "opened", "thinking", "content"),
    [
        ("<think>\nfirst this\n</think>\n\nThe answer.", False, "first this", "The answer."),
        ("\n<think></think>The answer.", False, "", "The answer."),
        ("first this\n</think>\nThe answer.", True, "first this", "The answer."),
        ("<think>first this</think>The answer.", True, "first this", "The answer."),
        ("<think>cut at the lim", False, "cut at the lim", ""),
        ("cut at the lim", True, "cut at the lim", ""),
        (f"<think>I could {CALL}</think>No.", False, f"I could {CALL}", "No."),
        (f"<think><tool_call>{CALL}</tool_call></think>No.", False, f"<tool_call>{CALL}</tool_call>", "No."),
        ("Not <think>thinking</think>", False, "", "Not <think>thinking</think>"),
    ],
)
def test_thinking_is_no_content_and_is_not_read_for_calls(names, text, opened, thinking, content):
    parser = ToolCallParser(names, thinking_opened=opened)
    parsed = parser.parse(text)
    assert (parsed.thinking, parsed.content, parsed.calls, parsed.invalid) == (thinking, content, (), ())
    for end in range(len(text) + 1):
        growing = parser.stable_prefix(text[:end])
        assert thinking.startswith(growing.thinking)
        assert content.startswith(growing.content)


def test_a_call_after_the_thinking_is_read():
    parsed = ToolCallParser(("now",)).parse(f"<think>now?</think>\n{CALL}")
    assert (parsed.thinking, parsed.content, [call.name for call in parsed.calls]) == ("now?", "", ["now"])
