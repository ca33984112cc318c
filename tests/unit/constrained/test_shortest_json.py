"""How short JSON of a schema is, and what one token may open in it."""

import json

import jsonschema
import pytest

from nad_agents.constrained.shortest_json import openings, shortest_instance
from tests.unit.constrained.schemas import NODE, SCHEMAS


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_shortest_instance_fits_the_schema(name):
    json.loads(shortest_instance(SCHEMAS[name]))
    if name not in {"pattern", "numbers"}:  # only lengths count there, and the number of digits hardly differs
        jsonschema.validate(json.loads(shortest_instance(SCHEMAS[name])), SCHEMAS[name])


def test_what_a_token_may_open():
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "array", "items": {"$ref": "#/$defs/T"}}},
        "required": ["a"],
        "$defs": {"T": {"type": "object", "properties": {"t": {"type": "integer"}}, "required": ["t"]}},
    }
    assert list(openings(schema)) == ['"b": [], ', '{"t": 0}, ']
    tree = {"$defs": {"N": NODE}, "$ref": "#/$defs/N"}
    assert list(openings(tree)) == ['{"v": 0, "c": []}, ']
    assert list(openings({"type": "string"})) == []


@pytest.mark.parametrize(
    ("schema", "length"),
    [
        ({"minLength": 7}, 7),
        ({"pattern": "^[a-z]{30}$"}, 30),
        ({"pattern": "a{99999}"}, 1000),
        ({"pattern": "("}, 0),
        ({"pattern": "a{3}", "minLength": 9}, 9),
        ({"format": "date"}, 24),
    ],
)
def test_the_least_length_of_a_string(schema, length):
    assert shortest_instance({"type": "string", **schema}) == json.dumps("a" * length)
