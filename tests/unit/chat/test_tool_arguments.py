"""Arguments of tool calls against the tool's schema: what fits, what is mended, what is refused and why."""

import time

import pytest

from nad_agents.chat.tool_arguments import ArgumentsError, fitting_arguments

SCHEMA = {
    "type": "object",
    "properties": {
        "count": {"type": "integer"},
        "price": {"type": "number"},
        "fresh": {"type": "boolean"},
        "unit": {"type": "string", "enum": ["kg", "lb"]},
        "sizes": {"type": "array", "items": {"type": "integer"}},
        "owner": {"$ref": "#/$defs/Owner"},
        "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "boss": {"anyOf": [{"$ref": "#/$defs/Owner"}, {"type": "null"}]},
    },
    "required": ["count"],
    "additionalProperties": False,
    "$defs": {
        "Owner": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "boss": {"$ref": "#/$defs/Owner"}},
            "required": ["name"],
            "additionalProperties": False,
        }
    },
}


@pytest.mark.parametrize(
    "arguments",
    [
        {"count": 5},
        {"count": 5, "price": 1.5, "fresh": True, "unit": "kg", "sizes": [1, 2], "limit": None, "boss": None},
        {"count": 5, "owner": {"name": "5", "boss": {"name": "None", "age": 3}}},
    ],
)
def test_what_fits_stays_as_it_is(arguments):
    assert fitting_arguments(arguments, SCHEMA) == arguments


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"count": "5"}, {"count": 5}),
        ({"count": " 5 ", "price": "1.5", "fresh": "True"}, {"count": 5, "price": 1.5, "fresh": True}),
        ({"count": 5, "sizes": "[1, 2]"}, {"count": 5, "sizes": [1, 2]}),
        ({"count": 5, "sizes": '["1", 2]'}, {"count": 5, "sizes": [1, 2]}),
        ({"count": 5, "owner": '{"name": "Ada", "age": "36"}'}, {"count": 5, "owner": {"name": "Ada", "age": 36}}),
        ({"count": 5, "boss": '{"name": "Ada"}', "limit": "7"}, {"count": 5, "boss": {"name": "Ada"}, "limit": 7}),
        ({"count": 5, "limit": "null"}, {"count": 5, "limit": None}),
        ({"count": 5, "unit": None}, {"count": 5}),
        ({"count": 5, "owner": {"name": "Ada", "age": None}}, {"count": 5, "owner": {"name": "Ada"}}),
    ],
)
def test_habits_of_models_are_mended(written, meant):
    before = repr(written)
    assert fitting_arguments(written, SCHEMA) == meant
    assert repr(written) == before


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "'count' is a required property"),
        ({"count": "five"}, "count: 'five' is not of type 'integer'"),
        ({"count": 1.5}, "count: 1.5 is not of type 'integer'"),
        ({"count": True}, "count: True is not of type 'integer'"),
        ({"count": None}, "count: None is not of type 'integer'"),
        ({"count": 5, "fresh": "yes"}, "fresh: 'yes' is not of type 'boolean'"),
        ({"count": 5, "price": "NaN"}, "price: 'NaN' is not of type 'number'"),
        ({"count": 5, "unit": "g"}, "unit: 'g' is not one of ['kg', 'lb']"),
        ({"count": 5, "unit": 7}, "unit: 7 is not"),
        ({"count": 5, "size": 1}, "'size' was unexpected"),
        ({"count": 5, "sizes": [1, None]}, "sizes.1: None is not of type 'integer'"),
        ({"count": 5, "sizes": "1, 2"}, "sizes: '1, 2' is not of type 'array'"),
        ({"count": 5, "owner": {"name": "Ada", "boss": {"age": 3}}}, "owner.boss: 'name' is a required property"),
        ({"count": 5, "boss": {"name": "Ada", "age": "old"}}, "boss.age: 'old' is not of type 'integer'"),
        ({"count": 5, "price": float("nan")}, "the arguments are no JSON"),
        ({"count": 5, "price": float("inf")}, "the arguments are no JSON"),
        ({"type": "object", "properties": {"count": {"type": "integer"}}}, "a schema, not values"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(arguments, reason):
    with pytest.raises(ArgumentsError) as error:
        fitting_arguments(arguments, SCHEMA)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_the_reason_is_short():
    with pytest.raises(ArgumentsError) as error:
        fitting_arguments({"count": "five" * 1000}, SCHEMA)
    assert len(str(error.value)) <= 300


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        {"type": "OBJECT", "properties": {"s": {"type": "INTEGER"}}},
        {"type": "object", "properties": {"s": {"type": ["no such type"]}}},
        {"type": "object", "properties": {"s": {"$ref": "#/$defs/missing"}}},
        {"$ref": "#"},
        # nothing is fetched, or this would fail or wait
        {"type": "object", "properties": {"s": {"$ref": "http://127.0.0.1:9/schema"}}},
    ],
)
def test_a_schema_that_cannot_be_used_lets_everything_through(schema):
    assert fitting_arguments({"s": "x"}, schema) == {"s": "x"}


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"s": {"type": "string", "pattern": "(a+)+$"}}},
        {"patternProperties": {"(a+)+$": {"type": "integer"}}, "additionalProperties": False},
        {"patternProperties": {"(a+)+$": {"type": "integer"}}, "unevaluatedProperties": False},
        {"properties": {"o": {"type": "object", "patternProperties": {"(a+)+$": {}}, "additionalProperties": False}}},
    ],
)
def test_a_pattern_holds_nobody_up(schema):
    text, started = "a" * 40 + "!", time.process_time()
    fitting_arguments({"s": text, text: text, "o": {text: text}}, {"type": "object", **schema})
    assert time.process_time() - started < 5


def test_fractions_are_left_to_the_tool():
    cents = {"properties": {"price": {"type": "number", "multipleOf": 0.01}, "even": {"multipleOf": 2}}}
    assert fitting_arguments({"price": 4.35}, cents) == {"price": 4.35}
    with pytest.raises(ArgumentsError, match="multiple of 2"):
        fitting_arguments({"even": 3}, cents)
