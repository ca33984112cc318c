"""Dates, times and numbers that pydantic writes into a schema, and that it has to read back."""

import datetime as dt
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from nad_agents.constrained.schema_narrowing import narrow_schema
from tests.unit.constrained.schemas import shaped
from tests.unit.langchain.chats import roomy_decoder, tiny_chat

KINDS = {
    "date": dt.date,
    "date-time": dt.datetime,
    "time": dt.time,
    "duration": dt.timedelta,
}


def pattern(kind):
    return narrow_schema({"type": "string", "format": kind})["pattern"]


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_fits_the_pattern_can_be_read(kind):
    adapter = TypeAdapter(KINDS[kind])

    @settings(max_examples=50, deadline=None)
    @given(st.from_regex(pattern(kind), fullmatch=True, alphabet=st.characters(codec="ascii")))
    def check(text):
        adapter.validate_python(text.rstrip("\n"))

    check()


@given(st.dates())
def test_every_date_fits(date):
    assert re.search(pattern("date"), date.isoformat())


@given(st.datetimes(timezones=st.just(dt.UTC)))
def test_every_moment_fits(moment):
    assert re.search(pattern("date-time"), moment.isoformat())


@pytest.mark.parametrize(
    "text", ["0000-01-01", "2023-02-29", "1900-02-29", "2024-02-30", "2024-04-31", "2024-13-01", "2024-00-10"]
)
def test_days_that_no_calendar_has(text):
    assert not re.search(pattern("date"), text)


def test_schemas_are_narrowed_wherever_they_are_and_nothing_else_is():
    date = {"type": "string", "format": "date"}
    made = {"type": "string", "pattern": pattern("date")}
    schema = {
        "properties": {"format": date, "list": {"items": date}, "map": {"additionalProperties": date}},
        "anyOf": [date, {"type": "null"}],
        "$defs": {"D": {"prefixItems": [date]}},
        "default": {"format": "date"},
        "additionalProperties": False,
    }
    assert narrow_schema(schema) == {
        "properties": {"format": made, "list": {"items": made}, "map": {"additionalProperties": made}},
        "anyOf": [made, {"type": "null"}],
        "$defs": {"D": {"prefixItems": [made]}},
        "default": {"format": "date"},
        "additionalProperties": False,
    }
    looking = {"type": "string", "pattern": "^(?!x)[0-9]+$"}
    assert narrow_schema({"anyOf": [{"type": "number"}, looking]}) == {"anyOf": [{"type": "number"}]}
    for kept in ({"format": "email"}, {**date, "pattern": "^2"}, True, {"anyOf": [{"pattern": "(?=a)"}]}):
        assert narrow_schema(kept) == kept


class Event(BaseModel):
    """Something that happens."""

    day: dt.date
    at: dt.datetime
    length: dt.timedelta
    until: dt.date | None = None


@pytest.fixture(scope="module")
def decoder():
    return roomy_decoder()


@pytest.mark.parametrize(
    ("limit", "method"), [(140, "json_schema"), (140, "json_mode"), (140, "function_calling"), (280, "json_schema")]
)
def test_every_candidate_can_be_read(decoder, limit, method):
    chat = tiny_chat(decoder=decoder, max_tokens=limit, n=6, temperature=3.0)
    chain = chat.with_structured_output(Event, method=method, include_raw=True, include_candidates=True)
    found = chain.invoke("hello")
    assert isinstance(found["parsed"], Event)
    for candidate in found["raw"].response_metadata["nad"]["candidates"]:
        message = candidate["message"]
        Event(**(message["tool_calls"][0]["args"] if message["tool_calls"] else json.loads(message["content"])))


@pytest.mark.parametrize("name", ["path", "password", "uri-reference", "byte", "binary", "int32", "anything"])
def test_an_unknown_format_is_an_annotation(name):
    schema = {"type": "object", "properties": {"a": {"type": "string", "format": name}}, "required": ["a"]}
    assert narrow_schema(schema)["properties"]["a"] == {"type": "string"}
    message = tiny_chat(max_tokens=30, n=2).invoke("hello", response_format=shaped(schema))
    assert isinstance(json.loads(message.content)["a"], str)


def test_known_formats_and_properties_of_that_name_stay():
    assert narrow_schema({"type": "string", "format": "uuid"}) == {"type": "string", "format": "uuid"}
    named = {"type": "object", "properties": {"format": {"type": "string"}}, "additionalProperties": False}
    assert narrow_schema(named) == named


def test_alternatives_that_a_constant_tells_apart_need_no_one_of():
    def tagged(tag, required=("kind",)):
        properties = {"kind": {"const": tag}, "size": {"type": "integer"}}
        return {"type": "object", "properties": properties, "required": list(required)}

    definitions = {"A": tagged("a"), "B": tagged("b")}
    references = [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}]
    union = {"oneOf": references, "discriminator": {"propertyName": "kind"}, "$defs": definitions}
    assert narrow_schema(union)["anyOf"] == references
    for other in (tagged("a"), tagged("b", required=()), {"type": "object"}, {"type": "string"}):
        assert "oneOf" in narrow_schema({"oneOf": [tagged("a"), other]})


def test_only_objects_that_say_nothing_else_are_closed():
    named = {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {}}}}}
    narrowed = narrow_schema(named)
    assert narrowed["additionalProperties"] is False
    assert narrowed["properties"]["a"]["additionalProperties"] is False
    for more in ({"additionalProperties": True}, {"minProperties": 2}, {"required": ["c"]}, {"allOf": [{}]}):
        assert narrow_schema({**named, **more}).get("additionalProperties", True) is True
