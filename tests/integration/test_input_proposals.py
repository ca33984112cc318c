"""Inputs that a real model proposes for the programs that it is asked for."""

import jsonschema
import pytest

from nad_agents.input_proposals import ModelAssertions, ModelInputs, ModelSeparator
from nad_agents.self_evaluation import ModelJudge

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


def test_assertions_have_all_arguments_and_a_result(default_decoder):
    found = ModelAssertions(default_decoder, count=3, max_new_tokens=160)(TASK, SCHEMAS)
    assert 1 <= len(found) <= 3
    for item in found:
        assert item.keys() == {*SCHEMAS, "expected_result"}
        jsonschema.validate(item, {"properties": SCHEMAS})


def test_a_model_proposes_inputs_for_two_programs(default_decoder):
    separator = ModelSeparator(default_decoder, count=2, max_new_tokens=96)
    programs = [
        "def between(w, a, b):\n    return [x for x in w if a <= len(x) <= b]",
        "def between(w, a, b): return w",
    ]
    found, tokens = separator.separate(TASK, *programs, SCHEMAS)
    assert 1 <= len(found) <= 2
    assert 0 < tokens <= 96
    for item in found:
        jsonschema.validate(item, {"properties": SCHEMAS, "required": list(SCHEMAS), "additionalProperties": False})


def test_a_model_judges_its_own_answers(default_decoder):
    judge = ModelJudge(default_decoder)
    (better,) = judge.compare("What is 2 + 2?", [("4", "a banana")])
    (worse,) = judge.compare("What is 2 + 2?", [("a banana", "4")])
    assert -1 < worse < better < 1
    # a model this small hardly knows which result is right, but it judges the results and not their places
    cases = [("f(2, 3)", "5", "raised TypeError"), ("f(2, 3)", "raised TypeError", "5")]
    forwards, backwards = judge.prefer("Write f(a, b), which adds a and b.", cases)
    assert forwards + backwards == pytest.approx(1, abs=1e-3)
    assert forwards != pytest.approx(0.5, abs=1e-4)
    chances = judge.p_true("What is 2 + 2?", ["4", "a banana"])
    assert all(0 < chance < 1 for chance in chances)
