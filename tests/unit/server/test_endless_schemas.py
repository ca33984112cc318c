"""A schema that no finite value fits is refused by name, before the model runs."""

import pytest

from tests.unit.server.servers import CHAT, http


def holder(inner):
    return {"type": "object", "properties": {"a": inner}, "required": ["a"]}


ENDLESS = {
    "itself": {"$ref": "#"},
    "a definition of itself": {"$defs": {"A": {"$ref": "#/$defs/A"}}, "$ref": "#/$defs/A"},
    "a required self": holder({"$ref": "#"}),
    "two that need each other": {
        "$defs": {
            "A": {"type": "object", "properties": {"b": {"$ref": "#/$defs/B"}}, "required": ["b"]},
            "B": {"type": "array", "items": {"$ref": "#/$defs/A"}, "minItems": 1},
        },
        "$ref": "#/$defs/A",
    },
}
ENDING = {
    "an optional self": {"type": "object", "properties": {"a": {"$ref": "#"}}},
    "a self or null": holder({"anyOf": [{"$ref": "#"}, {"type": "null"}]}),
    "a list of selves": holder({"type": "array", "items": {"$ref": "#"}, "maxItems": 1}),
}


async def ask(app, schema):
    shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    async with http(app) as wire:
        return await wire.post(
            "/v1/chat/completions", json={**CHAT, "max_tokens": 60, "nad": {"n": 2}, "response_format": shape}
        )


@pytest.mark.parametrize("schema", ENDLESS.values(), ids=ENDLESS)
async def test_a_schema_without_a_finite_value_is_refused(app, schema):
    answer = await ask(app, schema)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, "response_format", "invalid_schema")


@pytest.mark.parametrize("schema", ENDING.values(), ids=ENDING)
async def test_a_recursive_schema_with_a_finite_value_is_answered(app, schema):
    answer = await ask(app, schema)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"].startswith("{")


async def test_a_forced_call_whose_arguments_have_no_end_is_refused(app):
    function = {"name": "f", "parameters": holder({"$ref": "#"})}
    body = {**CHAT, "tools": [{"type": "function", "function": function}], "max_tokens": 60}
    async with http(app) as wire:
        forced = await wire.post("/v1/chat/completions", json={**body, "tool_choice": "required"})
        free = await wire.post("/v1/chat/completions", json=body)
    assert (forced.status_code, forced.json()["error"]["param"]) == (400, "tools")
    assert free.status_code == 200
