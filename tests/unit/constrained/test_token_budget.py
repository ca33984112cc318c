"""Answers are whole, however near the token limit is and whatever the schema asks for."""

import json
import re

import jsonschema
import pytest
from langchain_nad import AnswerCutError
from llguidance import LLMatcher

from nad_agents import ConfigurationError
from nad_agents.constrained.decoding import end_tokens, grammar_tokenizer, vocabulary_size
from nad_agents.constrained.grammar import json_grammar
from nad_agents.constrained.token_budget import TokenBudget, json_string_state, repeats_key
from tests.unit.constrained.schemas import NODE, shaped
from tests.unit.langchain.chats import roomy_decoder, tiny_chat

FIELDS = {name: {"type": "string"} for name in "abcdef"}
ITEM = {"type": "object", "properties": FIELDS, "required": list(FIELDS), "additionalProperties": False}


def field(schema, required=True):
    return {"type": "object", "properties": {"x": schema}, "required": ["x"] if required else []}


SCHEMAS = {
    "items with many fields": field({"type": "array", "items": ITEM}),
    "an optional field": field(ITEM, required=False),
    "alternatives": field({"anyOf": [{"type": "null"}, ITEM]}),
    "long strings": field({"type": "string", "minLength": 60}),
    "a pattern": field({"type": "string", "pattern": "^[a-z]{60}$"}),
    "a pattern that waits for a letter": field({"type": "string", "pattern": "^.*x$"}),
    "a pattern with a long way": field({"type": "string", "pattern": "^(k{60}|b)*$"}),
    "a pattern that waits": field({"type": "string", "pattern": "^[a-z]+@[a-z]+[.]org$"}),
    "recursion": {"$defs": {"N": NODE}, "$ref": "#/$defs/N"},
    "numbers": field({"type": "number", "minimum": 123456, "maximum": 123999}),
    "formats": field({"type": "string", "format": "date-time"}),
    "anything": field({}),
    "a map": {"type": "object", "additionalProperties": {"type": "integer"}},
    "a long list": field({"type": "array", "items": {"enum": ["yes", "no"]}, "minItems": 8}),
}


@pytest.fixture(scope="module")
def decoder():
    return roomy_decoder()


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_candidate_is_whole(decoder, name):
    chat = tiny_chat(decoder=decoder, max_tokens=100, n=8)
    message = chat.invoke("hello", response_format=shaped(SCHEMAS[name]), include_candidates=True)
    for candidate in message.response_metadata["nad"]["candidates"]:
        jsonschema.validate(json.loads(candidate["text"]), SCHEMAS[name])
        assert candidate["finish_reason"] == "stop"


def test_a_string_may_use_up_the_tokens_that_are_left(decoder):
    schema = field({"type": "array", "items": ITEM})
    message = tiny_chat(decoder=decoder, max_tokens=140, n=8).invoke(
        "hello", response_format=shaped(schema), include_candidates=True
    )
    used = [c["tokens"] for c in message.response_metadata["nad"]["candidates"] if len(c["text"]) > 20]
    assert max(used) > 110


def test_several_calls_are_whole(decoder):
    tools = [
        {"type": "function", "function": {"name": name, "description": "d", "parameters": ITEM}}
        for name in ("first", "second")
    ]
    chat = tiny_chat(decoder=decoder, max_tokens=220, n=4, temperature=20.0)
    bound = chat.bind_tools(tools, tool_choice="any", parallel_tool_calls=True)
    for seed in range(2):
        message = bound.invoke("hello", seed=seed)
        assert message.tool_calls
        assert not message.invalid_tool_calls
        assert all(set(call["args"]) == set(FIELDS) for call in message.tool_calls)


PATTERNS = ["[a-z]{2,}@[a-z]{2,}", "(ab|cd)*!", '"[^"]*"', ".*x", "[^0-9]*[0-9]{4}", "(q{30}|z)*=", "x(a{40}|b)"]


@pytest.mark.parametrize(
    ("pattern", "limit"), [*((pattern, 42) for pattern in PATTERNS), *((pattern, 60) for pattern in PATTERNS[-2:])]
)
def test_a_pattern_is_completed(decoder, pattern, limit):
    message = tiny_chat(decoder=decoder, max_tokens=limit, n=8).invoke(
        "hello", response_format={"type": "regex", "pattern": pattern}, include_candidates=True
    )
    for candidate in message.response_metadata["nad"]["candidates"]:
        assert re.fullmatch(pattern, candidate["text"], re.DOTALL)


WAITING = {"type": "regex", "pattern": ".*é"}


class TestPatternsThatAreNotCompleted:
    """A pattern whose way to the end is not found: it waits for a character that is not on any keyboard."""

    def test_an_error(self, decoder):
        chat = tiny_chat(decoder=decoder, n=2)
        with pytest.raises(AnswerCutError, match=r"the token limit cut the answer .* raise max_tokens") as caught:
            chat.invoke("hello", response_format=WAITING)
        assert caught.value.text
        with pytest.raises(AnswerCutError):
            list(chat.stream("hello", response_format=WAITING))

    async def test_without_blocking(self, decoder):
        with pytest.raises(AnswerCutError):
            await tiny_chat(decoder=decoder, n=2).ainvoke("hello", response_format=WAITING)

    def test_a_limit_far_too_low_is_refused_before(self, decoder):
        form = {"type": "regex", "pattern": "[a-z]{20,}"}
        with pytest.raises(ConfigurationError, match="the pattern of the response format needs about 22 tokens"):
            tiny_chat(decoder=decoder, max_tokens=20).invoke("hello", response_format=form)


def test_a_way_is_not_followed_beyond_what_fits(decoder):
    loaded = decoder.loaded
    matcher = LLMatcher(grammar_tokenizer(loaded), json_grammar(SCHEMAS["long strings"], "an answer").lark)
    budget = TokenBudget(loaded.tokenizer, vocabulary_size(loaded), end_tokens(loaded), opening_tokens=0)
    ending = budget.shortest_ending(matcher)
    assert ending is not None
    assert len(ending) > 60
    assert budget.shortest_ending(matcher, limit=len(ending)) == ending
    assert budget.shortest_ending(matcher, limit=len(ending) - 1) is None


def test_choices_are_whole_or_refused():
    choices = ["red", "red wine from France"]
    form = {"type": "choice", "choices": choices}
    message = tiny_chat(max_tokens=22, n=8).invoke("hello", response_format=form, include_candidates=True)
    assert {c["text"] for c in message.response_metadata["nad"]["candidates"]} == set(choices)
    with pytest.raises(
        ConfigurationError, match="the choices of the response format needs about 21 tokens, but max_tokens=20"
    ):
        tiny_chat(max_tokens=20).invoke("hello", response_format=form)


@pytest.mark.parametrize(
    ("text", "inside"),
    [('{"a', True), ('{"a"', False), ('{"a": "\\"', True), ('{"a": "\\\\"', False), ("", False), ('{"a": 1', False)],
)
def test_whether_json_breaks_off_in_a_string(text, inside):
    assert json_string_state(text)[0] is inside


def item_list(schema):
    item = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "price": schema},
        "required": ["name", "price"],
    }
    return field({"type": "array", "items": {**item, "additionalProperties": False}, "minItems": 1})


POSITIVE = {"type": "number", "exclusiveMinimum": 0}
NUMBERS = {
    "positive": POSITIVE,
    "negative": {"type": "number", "exclusiveMaximum": 0},
    "a positive integer": {"type": "integer", "exclusiveMinimum": 0},
    "a negative integer": {"type": "integer", "maximum": -1},
    "multiples": {"type": "integer", "multipleOf": 7, "minimum": 1},
    "large multiples": {"type": "integer", "multipleOf": 86_400, "minimum": 1},
    "multiples in bounds": {"type": "integer", "multipleOf": 4_099, "minimum": 70_000, "maximum": 90_000},
    "fractions": {"type": "number", "multipleOf": 0.25, "exclusiveMinimum": 0},
    "a small range": {"type": "number", "exclusiveMinimum": 0.125, "exclusiveMaximum": 0.126},
    "up to a half": {"type": "number", "exclusiveMinimum": 0, "maximum": 0.5},
    "thousandths": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
    "a bit below zero": {"type": "number", "exclusiveMinimum": -0.01, "exclusiveMaximum": 0},
    "a bit above five": {"type": "number", "exclusiveMinimum": 5, "exclusiveMaximum": 5.001},
    "a share or null": {
        "anyOf": [{"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.9}, {"type": "null"}]
    },
    "positive or null": {"anyOf": [POSITIVE, {"type": "null"}]},
    "multiples or null": {"anyOf": [{"type": "integer", "multipleOf": 11, "minimum": 1}, {"type": "null"}]},
    "positive or text": {"anyOf": [POSITIVE, {"type": "string"}]},
}


# a limit for the kinds of numbers at which they are cut, and one at which some lists have several items
@pytest.mark.parametrize(
    ("name", "limit"), [*((name, 70) for name in NUMBERS), ("large multiples", 110), ("a share or null", 110)]
)
def test_bounded_numbers_are_completed(decoder, name, limit):
    schema = item_list(NUMBERS[name])
    chat = tiny_chat(decoder=decoder, max_tokens=limit, n=8)
    message = chat.invoke("hello", response_format=shaped(schema), include_candidates=True)
    for candidate in message.response_metadata["nad"]["candidates"]:
        jsonschema.validate(json.loads(candidate["text"]), schema)


@pytest.mark.parametrize("name", NUMBERS)
def test_an_answer_may_be_one_bounded_number(decoder, name):
    chat = tiny_chat(decoder=decoder, max_tokens=20, n=8)
    message = chat.invoke("hello", response_format=shaped(NUMBERS[name]), include_candidates=True)
    for candidate in message.response_metadata["nad"]["candidates"]:
        jsonschema.validate(json.loads(candidate["text"]), NUMBERS[name])


def test_a_schema_without_a_known_end_is_refused_by_name(decoder):
    schema = field({"type": "string", "pattern": "^.*é$"})
    with pytest.raises(ConfigurationError, match=r"no way to complete properties\.x in the schema of .* was found"):
        tiny_chat(decoder=decoder, max_tokens=60).invoke("hello", response_format=shaped(schema))


def test_the_end_does_not_repeat_a_key(decoder):
    schema = {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 3}
    chat = tiny_chat(decoder=decoder, max_tokens=28, n=8)
    message = chat.invoke("hello", response_format=shaped(schema), include_candidates=True)
    for candidate in message.response_metadata["nad"]["candidates"]:
        jsonschema.validate(json.loads(candidate["text"]), schema)


def test_a_multiple_too_large_for_the_grammar_is_refused_by_name(decoder):
    schema = field({"type": "integer", "multipleOf": 86_401, "minimum": 1})
    with pytest.raises(ConfigurationError, match=r"no way to complete properties\.x in the schema of .* was found"):
        tiny_chat(decoder=decoder, max_tokens=200).invoke("hello", response_format=shaped(schema))


@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        ('{"a": 1, "a', True),
        ('{"a": 1, "b', False),
        ('{"a": {"b": 2}, "b', False),
        ('[{"a": 1}, {"a', False),
        ('{"a": "a', False),
        ('{"a": [1, 2], "a', True),
        ('{"": 1, "', True),
    ],
)
def test_whether_a_key_is_repeated(text, repeated):
    assert repeats_key(text) is repeated
