"""Constrained decoding: a random model, which would never write JSON by itself, has to."""

import json
import re
from typing import Literal

import jsonschema
import pytest
from pydantic import BaseModel, Field

from nad_agents import ConfigurationError, MissingDependencyError
from nad_agents.constrained import decoding
from nad_agents.constrained.decoding import make_processors
from nad_agents.constrained.grammar import Grammar
from nad_agents.constrained.shortest_json import shortest_instance
from nad_agents.constrained.token_budget import in_string
from tests.unit.constrained.schemas import shaped
from tests.unit.langchain.chats import roomy_decoder, tiny_chat


class Item(BaseModel):
    name: str
    price: float
    tags: list[str] = []


class Order(BaseModel):
    id: int
    kind: Literal["small", "large"]
    items: list[Item] = Field(min_length=1)
    gift: bool
    note: str | None


class Node(BaseModel):
    value: int
    children: list["Node"] = []


SCHEMAS = {
    "flat": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
    "nested": Order.model_json_schema(),
    "recursive": Node.model_json_schema(),
    "enum": {"type": "object", "properties": {"c": {"enum": ["x", 3, None]}}, "required": ["c"]},
    "pattern": {
        "type": "object",
        "properties": {"d": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}$"}},
        "required": ["d"],
    },
    "numbers": {
        "type": "object",
        "properties": {"i": {"type": "integer"}, "f": {"type": "number"}, "m": {"type": "integer", "minimum": 5}},
        "required": ["i", "f", "m"],
    },
    "array": {"type": "array", "items": {"type": "integer"}, "minItems": 2},
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_candidate_fits_the_schema(name):
    message = tiny_chat(decoder=roomy_decoder(), max_tokens=150, seed=5).invoke(
        "hello", response_format=shaped(SCHEMAS[name]), include_candidates=True
    )
    candidates = message.response_metadata["nad"]["candidates"]
    assert len(candidates) == 4
    for candidate in candidates:
        jsonschema.validate(json.loads(candidate["text"]), SCHEMAS[name])
        assert candidate["finish_reason"] == "stop"
    assert len({c["text"] for c in candidates}) > 1


@pytest.mark.parametrize("limit", [30, 45, 70])
def test_json_is_closed_before_the_token_limit(limit):
    chat = tiny_chat(max_tokens=limit, n=8)
    message = chat.invoke("hello", response_format=shaped(SCHEMAS["flat"]), include_candidates=True)
    for candidate in message.response_metadata["nad"]["candidates"]:
        jsonschema.validate(json.loads(candidate["text"]), SCHEMAS["flat"])


def test_a_limit_too_low_is_refused_before_anything_runs():
    with pytest.raises(ConfigurationError, match="max_tokens=20; raise max_tokens"):
        tiny_chat(max_tokens=20).invoke("hello", response_format=shaped(Order.model_json_schema()))


def test_rows_may_leave_at_any_step():
    chat = tiny_chat(max_tokens=120, n=8, pruning="first_chunk", keep=2, chunk_size=16)
    message = chat.invoke("hello", response_format=shaped(SCHEMAS["numbers"]), include_candidates=True)
    candidates = message.response_metadata["nad"]["candidates"]
    whole = [c for c in candidates if c["finish_reason"] != "pruned"]
    assert len(whole) < 8
    for candidate in whole:
        jsonschema.validate(json.loads(candidate["text"]), SCHEMAS["numbers"])


def test_a_constrained_request_beside_free_ones():
    chat = tiny_chat(max_tokens=80)
    alone = chat.invoke("free")
    decoder = chat.get_decoder()
    settings = chat.settings()
    processors = make_processors(
        Grammar(f"start: %json {json.dumps(SCHEMAS['flat'])}\n", "it", '{"a": ""}'), decoder.loaded, 80
    )
    options = {"sampling": settings.sampling, "config": settings.config}
    pending = [
        *decoder.submit(["free"], **options),
        *decoder.submit(["one", "two"], logits_processors=processors, **options),
        *decoder.submit(["free"], **options),
    ]
    free, one, two, again = (p.result() for p in pending)
    assert free.text == again.text == alone.content
    for selection in (one, two):
        for candidate in selection.candidates:
            jsonschema.validate(json.loads(candidate.text), SCHEMAS["flat"])


def test_masks_are_the_same_on_one_thread_and_on_several(monkeypatch):
    chat, texts = tiny_chat(max_tokens=60), []
    for workers in (1, 2):
        monkeypatch.setattr(decoding, "_WORKERS", workers)
        message = chat.invoke("hello", response_format=shaped(SCHEMAS["flat"]), include_candidates=True)
        texts.append([candidate["text"] for candidate in message.response_metadata["nad"]["candidates"]])
    assert len(set(texts[0])) > 1
    assert texts[0] == texts[1]


def test_neurons_are_those_of_the_constrained_tokens():
    chat = tiny_chat(max_tokens=60)
    message = chat.invoke("hello", response_format=shaped(SCHEMAS["flat"]), include_candidates=True)
    evidence = message.response_metadata["nad"]
    assert evidence["selector"] == "knn"
    assert all(c["activated_neurons"] >= 12 for c in evidence["candidates"])


@pytest.mark.parametrize("pattern", [r"[0-9]{3}-[0-9]{2}", r"(yes|no)/(1|2)", "é+x"])
def test_regex(pattern):
    text = tiny_chat(max_tokens=60).invoke("hello", response_format={"type": "regex", "pattern": pattern}).text
    assert re.fullmatch(pattern, text)


@pytest.mark.parametrize("pattern", [r"\d{6}-[\d.]{4}", r"\\d{3}"])
def test_digits_are_those_of_ascii(pattern):
    form = {"type": "regex", "pattern": pattern}
    message = tiny_chat(max_tokens=60, n=8).invoke("hello", response_format=form, include_candidates=True)
    for candidate in message.response_metadata["nad"]["candidates"]:
        assert re.fullmatch(pattern, candidate["text"], re.ASCII)


def test_choice():
    choices = ["red", "green", 'a "quoted" one', "grün"]
    answer = tiny_chat().invoke(
        "hello", response_format={"type": "choice", "choices": choices}, include_candidates=True
    )
    assert {c["text"] for c in answer.response_metadata["nad"]["candidates"]} <= set(choices)


def test_text_is_no_constraint():
    chat = tiny_chat()
    assert chat.invoke("hello", response_format={"type": "text"}).content == chat.invoke("hello").content


@pytest.mark.parametrize(
    ("schema", "part"),
    [
        ({"type": "object", "properties": {"a": {"not": {"type": "string"}}}, "required": ["a"]}, "not"),
        ({"type": "object", "properties": {"a": {"type": "string", "format": "strange"}}}, "format: strange"),
        ({"type": "thing"}, "thing"),
    ],
)
def test_what_a_grammar_cannot_express_is_named(schema, part):
    with pytest.raises(ConfigurationError, match=rf"cannot be turned into a grammar: .*{part}") as caught:
        tiny_chat().invoke("hello", response_format=shaped(schema))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "bad", [{"type": "xml"}, {"type": "regex"}, {"type": "json_schema"}, "json", {"type": "choice"}]
)
def test_unknown_response_formats(bad):
    with pytest.raises(ConfigurationError, match="is not understood; give"):
        tiny_chat().invoke("hello", response_format=bad)


def test_a_missing_dependency_names_the_extra(monkeypatch):
    import sys

    from nad_agents.constrained import decoding

    monkeypatch.setitem(sys.modules, "llguidance", None)
    monkeypatch.setitem(sys.modules, "llguidance.hf", None)
    monkeypatch.setattr(decoding, "_TOKENIZERS", {})
    with pytest.raises(MissingDependencyError, match=r"nad-agents\[grammar\]"):
        tiny_chat().invoke("hello", response_format={"type": "json_object"})


@pytest.mark.parametrize(
    ("text", "inside"),
    [('{"a', True), ('{"a"', False), ('{"a": "\\"', True), ('{"a": "\\\\"', False), ("", False), ('{"a": 1', False)],
)
def test_in_string(text, inside):
    assert in_string(text) is inside


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_shortest_instance_fits_the_schema(name):
    json.loads(shortest_instance(SCHEMAS[name]))
    if name not in {"pattern", "numbers"}:  # only lengths count there, and the number of digits hardly differs
        jsonschema.validate(json.loads(shortest_instance(SCHEMAS[name])), SCHEMAS[name])
