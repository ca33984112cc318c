"""Constrained decoding: a random model, which would never write JSON by itself, has to."""

import copy
import json
import re

import jsonschema
import pytest

from nad_agents import ConfigurationError, MissingDependencyError
from nad_agents.constrained import decoding
from tests.tiny_models import byte_tokenizer
from tests.unit.constrained.schemas import SCHEMAS, shaped
from tests.unit.langchain.chats import one_layer_model, roomy_decoder, tiny_chat, tiny_decoder


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
        tiny_chat(max_tokens=20).invoke("hello", response_format=shaped(SCHEMAS["nested"]))


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
        ({"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}, "uniqueItems"),
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

    monkeypatch.setitem(sys.modules, "llguidance", None)
    monkeypatch.setitem(sys.modules, "llguidance.hf", None)
    monkeypatch.setattr(decoding, "_TOKENIZERS", {})
    with pytest.raises(MissingDependencyError, match=r"nad-agents\[grammar\]"):
        tiny_chat().invoke("hello", response_format={"type": "json_object"})


def test_a_model_without_an_end_token_is_refused():
    decoder = tiny_decoder(tokenizer=copy.deepcopy(byte_tokenizer()), model=copy.deepcopy(one_layer_model()))
    decoder.loaded.tokenizer.eos_token = None
    decoder.loaded.model.generation_config.eos_token_id = None
    with pytest.raises(ConfigurationError, match="tiny has no end token, so no grammar can end its answers"):
        tiny_chat(decoder=decoder).invoke("hello", response_format=shaped({"type": "integer"}))
