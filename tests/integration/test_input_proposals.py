"""Inputs that a real model proposes for the programs that it is asked for."""

import jsonschema
import pytest

from nad_agents.input_proposals import ModelInputs

TASK = "Write a Python function between(words, low, high) that says which words have a length from low to high."
SCHEMAS = {
    "words": {"type": "array", "items": {"type": "string"}, "maxItems": 12},
    "low": {"type": "integer", "minimum": 0},
    "high": {"type": "integer"},
}


@pytest.fixture(scope="module")
def propose(default_decoder):
    return ModelInputs(default_decoder, count=3, max_new_tokens=96)


def test_every_proposed_call_has_all_arguments_in_their_types(propose):
    calls = propose(TASK, SCHEMAS)
    assert 1 <= len(calls) <= 3
    for call in calls:
        jsonschema.validate(call, {"properties": SCHEMAS, "required": list(SCHEMAS), "additionalProperties": False})
    assert propose(TASK, SCHEMAS) == calls


def test_a_script_is_given_texts_and_a_function_without_parameters_nothing(propose):
    texts = propose("Read two numbers and print their sum.", None)
    assert texts
    assert all(isinstance(text, str) for text in texts)
    assert propose("Write a function f() that returns 1.", {}) == []
