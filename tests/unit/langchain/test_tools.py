"""Tools on offer, chosen, forced, streamed, and back in the conversation; structured output; agents."""

import asyncio
from typing import Literal

import pytest
from langchain_core.messages import HumanMessage
from langchain_nad import NADChatModel
from pydantic import BaseModel, Field
from pydantic.v1 import BaseModel as BaseModelV1

from nad_agents import ConfigurationError
from nad_agents.chat.tools import tool_choice_name
from nad_agents.testing import AcceptingVerifier
from tests.unit.langchain.chats import json_decoder, roomy_decoder, tiny_chat
from tests.unit.langchain.tools import PersonDict, add, hermes_tokenizer, now


class Search(BaseModel):
    """Search for something."""

    query: str
    kind: Literal["web", "books"] = "web"


@pytest.fixture(scope="module")
def chat():
    return tiny_chat(decoder=json_decoder(), max_tokens=40)


@pytest.mark.parametrize(
    ("choice", "meant"),
    [
        ("any", "required"),
        ("required", "required"),
        (True, "required"),
        ({"type": "any"}, "required"),
        ("add", "add"),
        ({"type": "function", "function": {"name": "add"}}, "add"),
        ({"type": "tool", "name": "add"}, "add"),
        (False, "none"),
        (None, None),
    ],
)
def test_a_choice_has_one_form(choice, meant):
    bound = NADChatModel().bind_tools([add, now], tool_choice=choice)
    assert bound.kwargs.get("tool_choice") == meant


@pytest.mark.parametrize("choice", ["any", "add"])
def test_a_forced_choice_always_yields_one_valid_call(chat, choice):
    bound = chat.bind_tools([add, now, Search], tool_choice=choice)
    for seed in range(2):
        message = bound.invoke("hello", seed=seed)
        assert message.content == ""
        assert not message.invalid_tool_calls
        (call,) = message.tool_calls
        assert message.response_metadata["finish_reason"] == "tool_calls"
        if choice == "any":
            assert call["name"] in {"add", "now", "Search"}
        else:
            assert call["name"] == "add"
        if call["name"] == "add":
            assert {type(value) for value in call["args"].values()} == {int}
            assert set(call["args"]) == {"a", "b"}
        elif call["name"] == "Search":
            Search(**call["args"])
        else:
            assert call["args"] == {}


def test_several_calls_where_they_are_allowed(chat):
    bound = chat.bind_tools([now], tool_choice="any", parallel_tool_calls=True)
    # hot enough that the random model does not always end after the first call, and the longest answer wins
    hot = bound.bind(temperature=20.0, max_tokens=120, selector=lambda group: list(map(len, group.rollouts)))
    assert any(len(hot.invoke("hello", seed=seed).tool_calls) > 1 for seed in range(8))


def test_forced_calls_stream_and_add_up(chat):
    bound = chat.bind_tools([add], tool_choice="any")
    for output_version in (None, "v1"):
        other = bound.bound.model_copy(update={"output_version": output_version})
        chunks = list(other.bind(**bound.kwargs).stream("hello"))
        full = sum(chunks[1:], chunks[0])
        expected = bound.invoke("hello")
        assert [(c["name"], c["args"]) for c in full.tool_calls] == [
            (c["name"], c["args"]) for c in expected.tool_calls
        ]
        assert full.text == ""
        assert any(block["type"] == "tool_call" for block in full.content_blocks)
        parts = [part for chunk in chunks for part in chunk.tool_call_chunks]
        assert [part["name"] for part in parts if part["name"]] == ["add"]


async def test_forced_calls_without_blocking(chat):
    bound = chat.bind_tools([add], tool_choice="any")
    one, two = await asyncio.gather(bound.ainvoke("hello"), bound.ainvoke("hello"))
    assert one.tool_calls[0]["args"] == two.tool_calls[0]["args"]


def test_a_free_choice_may_be_prose(chat):
    free = chat.bind_tools([add]).invoke("hello")
    assert free.content
    assert not free.tool_calls
    chunks = list(chat.bind_tools([add]).stream("hello"))
    assert sum(chunks[1:], chunks[0]).content == free.content


def test_no_choice_keeps_the_tools_out(chat):
    without, message = chat.invoke("hello"), chat.bind_tools([add], tool_choice="none").invoke("hello")
    assert message.content == without.content
    assert message.usage_metadata == without.usage_metadata


class TestRefused:
    def test_a_choice_that_is_not_bound(self):
        with pytest.raises(ConfigurationError, match="tool_choice='ad' names no bound tool; did you mean 'add'"):
            NADChatModel().bind_tools([add], tool_choice="ad")
        with pytest.raises(ConfigurationError, match="there are no tools"):
            tool_choice_name("any", [])
        with pytest.raises(ConfigurationError, match="names no bound tool"):
            NADChatModel().bind_tools([add], tool_choice=["add"])
        assert tool_choice_name({"type": "tool", "name": "add"}, ["add"]) == "add"
        assert tool_choice_name({"type": "any"}, ["add"]) == "required"

    def test_what_is_no_tool(self):
        def bare(a):
            pass

        with pytest.raises(ConfigurationError, match="'bare' cannot be used as a tool"):
            NADChatModel().bind_tools([bare])
        with pytest.raises(ConfigurationError, match="cannot be used as a tool"):
            NADChatModel().bind_tools([3])
        for parameters in (3, {"type": "array"}):
            with pytest.raises(ConfigurationError, match="its parameters are no schema of an object"):
                NADChatModel().bind_tools([{"name": "f", "description": "d", "parameters": parameters}])
        for undescribed in ({"name": "f", "parameters": {}}, {"name": "f", "description": "", "parameters": {}}):
            with pytest.raises(ConfigurationError, match="it has no description, by which models choose; give it a"):
                NADChatModel().bind_tools([undescribed])
        other = {"name": "add", "description": "odd", "parameters": {"properties": {"z": {}}}}
        with pytest.raises(ConfigurationError, match="two tools are named 'add'"):
            NADChatModel().bind_tools([add, other])
        assert len(NADChatModel().bind_tools([add, add]).kwargs["tools"]) == 1

    def test_arguments_that_no_grammar_expresses(self, chat):
        odd = {
            "name": "odd",
            "description": "odd",
            "parameters": {"type": "object", "properties": {"a": {"not": {}}}, "required": ["a"]},
        }
        with pytest.raises(ConfigurationError, match="the arguments of odd cannot be turned into a grammar"):
            chat.bind_tools([odd], tool_choice="any").invoke("hello")


def test_tools_count_as_tokens(chat):
    question = [HumanMessage("2 + 3?")]
    with_tools = chat.get_num_tokens_from_messages(question, tools=[add])
    assert with_tools > chat.get_num_tokens_from_messages(question) + 100
    assert chat.bind_tools([add]).invoke(question).usage_metadata["input_tokens"] == with_tools


def test_calls_in_the_models_own_format():
    decoder = roomy_decoder()
    object.__setattr__(decoder.loaded, "tokenizer", hermes_tokenizer())
    decoder.engine.tokenizer = decoder.loaded.tokenizer
    chat = tiny_chat(decoder=decoder, max_tokens=90)
    message = chat.bind_tools([add], tool_choice="any").invoke("hello", include_candidates=True)
    assert set(message.tool_calls[0]["args"]) == {"a", "b"}
    for candidate in message.response_metadata["nad"]["candidates"]:
        assert candidate["text"].startswith('<tool_call>\n{"name": "add", "arguments": {')
        assert candidate["text"].endswith("</tool_call>")


def test_calls_are_not_verified(chat):
    verifier = AcceptingVerifier()
    checked = tiny_chat(decoder=chat.get_decoder(), max_tokens=60, verifier=verifier)
    message = checked.bind_tools([add], tool_choice="any").invoke("hello")
    assert message.response_metadata["nad"]["verification"]["passed"] is True
    assert len(verifier.calls) == 0
    checked.bind_tools([add]).invoke("hello")
    assert len(verifier.calls) > 0


class Person(BaseModel):
    """A person."""

    name: str
    age: int = Field(ge=0)


class PersonV1(BaseModelV1):
    """A person."""

    name: str
    age: int


@pytest.mark.parametrize(
    "schema", [Person, PersonV1, PersonDict, Person.model_json_schema()], ids=["v2", "v1", "dict", "json"]
)
@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
def test_structured_output_always_fits(chat, method, schema):
    chain = chat.with_structured_output(schema, method=method, max_tokens=60, n=2)
    found = chain.invoke("hello")
    if isinstance(schema, type) and schema is not PersonDict:
        assert isinstance(found, schema)
    else:
        assert set(found) == {"name", "age"}
        assert isinstance(found["age"], int)
    if schema is Person:
        *_, last = chain.stream("hello")
        assert last == found


def test_a_shape_needs_no_description(chat):
    schema = {"title": "x", "type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    for method in ("json_schema", "function_calling", "json_mode"):
        assert set(chat.with_structured_output(schema, method=method).invoke("hello")) == {"a"}


def test_structured_output_with_the_raw_message(chat):
    found = chat.with_structured_output(Person, include_raw=True).invoke("hello")
    assert isinstance(found["parsed"], Person)
    assert found["parsing_error"] is None
    assert found["raw"].response_metadata["nad"]["n"] == 4


def test_structured_output_streams_partial_objects(chat):
    early = tiny_chat(decoder=chat.get_decoder(), max_tokens=60, pruning="first_chunk", chunk_size=4)
    parts = list(early.with_structured_output(PersonDict).stream("hello"))
    assert len(parts) > 3
    assert set(parts[-1]) == {"name", "age"}


def test_structured_output_refuses(chat):
    with pytest.raises(ConfigurationError, match="method='xml' is unknown"):
        chat.with_structured_output(Person, method="xml")
    with pytest.raises(ConfigurationError, match="is no schema"):
        chat.with_structured_output(3)
    with pytest.raises(ConfigurationError, match="no parameter 'temprature'"):
        chat.with_structured_output(Person, temprature=1).invoke("hello")
