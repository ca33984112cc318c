"""Numbers of JSON under a grammar are finite in float64, whatever the model wants to write."""

import copy
import json
import math

import pytest
import torch

from nad_agents.constrained.decoding import end_tokens, make_processors, vocabulary_size
from nad_agents.constrained.finite_numbers import FiniteNumbers
from nad_agents.constrained.grammar import json_grammar
from nad_agents.constrained.vocabulary_texts import vocabulary_texts
from tests.tiny_models import byte_tokenizer
from tests.unit.langchain.chats import roomy_decoder

LIMIT = 700


@pytest.fixture(scope="module")
def loaded():
    return roomy_decoder().loaded


def written(loaded, schema, wanted):
    """Return what a model writes under a schema if it wants to write a text, and to end where it cannot go on."""
    (processor,) = make_processors(json_grammar(schema, "the answer"), loaded, LIMIT)()
    want = loaded.tokenizer(wanted, add_special_tokens=False)["input_ids"]
    ends = end_tokens(loaded)
    ids: list[int] = [0]
    while True:
        scores = torch.zeros(1, vocabulary_size(loaded))
        scores[0, ends] = 1
        if len(ids) <= len(want) and ids[1:] == want[: len(ids) - 1]:
            scores[0, want[len(ids) - 1]] = 2
        token = int(processor(torch.tensor([ids]), scores).argmax())
        if token in ends:
            return loaded.tokenizer.decode(ids[1:])
        ids.append(token)


@pytest.mark.parametrize(
    "wanted", ["1e9999", "-1E+9999", "1.5e309", "0.001e999", "7" * 400, "7" * 400 + ".5", "12345e306", "1e0000000400"]
)
@pytest.mark.parametrize("schema", [{"type": "number"}, {"type": "number", "minimum": -1e9}, {"type": "integer"}, {}])
def test_a_number_ends_before_it_is_infinite(loaded, schema, wanted):
    number = json.loads(written(loaded, schema, wanted))
    assert math.isfinite(float(number))


@pytest.mark.parametrize(
    "wanted", ["6.02214076e23", "1e300", "-2.5E+7", "1e-9999", "9" * 300, "0.0001", "1e007", "123.5e-5"]
)
def test_a_finite_number_is_written_as_the_model_wants(loaded, wanted):
    assert written(loaded, {"type": "number"}, wanted) == wanted


@pytest.mark.parametrize("pattern", ["^[0-9]e[0-9]{6}$", "^[0-9]e[0-9]{4,6}$"])
def test_text_is_no_number(loaded, pattern):
    for schema in ({"type": "string", "pattern": pattern}, {"type": "string"}):
        assert written(loaded, schema, '"1e999999"') == '"1e999999"'


@pytest.mark.parametrize("start", ["", "1", "1e", "1e30", "1.25e"])
def test_a_token_may_hold_several_digits(start):
    tokenizer = copy.deepcopy(byte_tokenizer())
    whole = ["e999", "1e9999", "99999", "7e30", "E+400", ".5e400", "309", "30"]
    tokenizer.add_tokens(whole)
    vocabulary = vocabulary_texts(tokenizer)
    allowed = torch.zeros(len(tokenizer), dtype=torch.bool)
    digits = tokenizer.convert_tokens_to_ids(list("0123456789"))
    allowed[[*tokenizer.convert_tokens_to_ids(whole), *digits]] = True
    before = {vocabulary.texts[i] for i in allowed.nonzero().flatten().tolist()}
    FiniteNumbers(vocabulary).restrict(tokenizer(start, add_special_tokens=False)["input_ids"], allowed)
    left = {vocabulary.texts[i] for i in allowed.nonzero().flatten().tolist()}
    # what does not continue a number is the grammar's matter
    numbers = {text: float(start + text) for text in before if _is_number(start + text)}
    assert all(math.isfinite(numbers[text]) for text in left & numbers.keys())
    assert left >= {text for text, value in numbers.items() if value < 1e307}


def _is_number(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
