"""A refused schema is refused with the part at fault, in words that help."""

import pytest
from pydantic import BaseModel

from nad_agents import ConfigurationError
from nad_agents.constrained.schema_errors import compile_error_reason, failing_subschema
from tests.unit.constrained.schemas import shaped
from tests.unit.langchain.chats import roomy_decoder, tiny_chat

GOOD = {"type": "string"}
NOT = {"not": {"type": "string"}}


def with_property(schema, **more):
    return {"type": "object", "properties": {"fine": GOOD, "a": schema}, "required": ["a"], **more}


@pytest.fixture(scope="module")
def chat():
    return tiny_chat(decoder=roomy_decoder(), max_tokens=200, n=2)


@pytest.mark.parametrize(
    ("schema", "where", "why"),
    [
        (with_property(with_property(NOT)), "properties.a.properties.a in", 'Unimplemented keys: ["not"]'),
        (with_property({"anyOf": [GOOD, NOT]}), "properties.a.anyOf.1 in", '"not"'),
        (with_property({"type": "array", "items": NOT}), "properties.a.items in", '"not"'),
        (with_property({"type": "array", "prefixItems": [GOOD, NOT]}), "properties.a.prefixItems.1 in", '"not"'),
        (with_property({"type": "object", "additionalProperties": NOT}), "properties.a.additionalProperties in", "not"),
        (
            with_property({"$ref": "#/$defs/Deep"}, **{"$defs": {"Deep": with_property(NOT), "Fine": GOOD}}),
            "$defs.Deep.properties.a in",
            '"not"',
        ),
        (with_property({"type": "array", "items": GOOD, "uniqueItems": True}), "properties.a in", "uniqueItems"),
        (with_property({**GOOD, "pattern": "["}), "properties.a in", "unclosed character class"),
        (with_property({**GOOD, "pattern": "^(?=a)b"}), "properties.a in", "look-around"),
        (with_property({"type": "integer", "minimum": 5, "maximum": 3}), "properties.a in", "greater than maximum"),
        (with_property({"$ref": "#/$defs/Absent"}), "properties.a in", "does not exist"),
        (with_property({"type": "thing"}), "properties.a in", "thing"),
        (with_property(GOOD, dependentRequired={"a": ["fine"]}), "the schema of the response format cannot", "depend"),
    ],
)
def test_the_innermost_part_is_named(chat, schema, where, why):
    with pytest.raises(ConfigurationError) as caught:
        chat.invoke("hello", response_format=shaped(schema))
    message = str(caught.value)
    assert message.startswith(where)
    assert "cannot be turned into a grammar: " in message
    assert why in message
    assert message.endswith("leave that part out of the schema")
    assert "\n" not in message


def test_of_several_tools_the_one_at_fault_is_named(chat):
    def tool(name, schema):
        function = {"name": name, "description": "d", "parameters": with_property(schema)}
        return {"type": "function", "function": function}

    with pytest.raises(ConfigurationError, match=r"^properties\.a in the arguments of second cannot"):
        chat.bind_tools([tool("first", GOOD), tool("second", NOT)], tool_choice="any").invoke("hello")


def test_a_pydantic_class_is_named_and_a_set_is_at_fault(chat):
    class Labels(BaseModel):
        """Labels of a text."""

        labels: set[str]

    for method in ("json_schema", "json_mode"):
        with pytest.raises(ConfigurationError, match=r"^properties\.labels in the schema of Labels cannot"):
            chat.with_structured_output(Labels, method=method).invoke("hello")
    with pytest.raises(ConfigurationError, match=r"^properties\.labels in the arguments of Labels cannot"):
        chat.with_structured_output(Labels, method="function_calling").invoke("hello")


@pytest.mark.parametrize("pattern", ["[", "(?=a)b", "(?<n>a)\\k<n>"])
def test_a_bad_pattern(chat, pattern):
    with pytest.raises(ConfigurationError, match=r"^the pattern of the response format cannot be turned") as caught:
        chat.invoke("hello", response_format={"type": "regex", "pattern": pattern})
    assert "\n" not in str(caught.value)
    assert "at 2(" not in str(caught.value)


def test_the_search_asks_for_parts_alone():
    asked = []

    def refuses(schema):
        asked.append(schema)
        return "bad" if "bad" in str(schema) else None

    assert failing_subschema({"properties": {"x": {"items": {"const": "bad"}}, "y": {}}}, refuses) == (
        "properties.x.items",
        "bad",
    )
    assert failing_subschema({"const": 1}, refuses) is None
    # what only the whole has wrong is the whole's fault
    assert failing_subschema({"required": ["bad"], "properties": {"x": {}}}, refuses) == ("", "bad")
    assert all("y" not in schema.get("properties", {}) for schema in asked[1:3])


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("failed to compile JSON schema: Unknown format: x\n<grammar>", "Unknown format: x"),
        ("at 2(8): invalid regex", "invalid regex"),
        ("bad regex parse error:\n  (\n  ^\nerror: unclosed group", "bad unclosed group"),
    ],
)
def test_the_engines_reason_is_one_line(message, reason):
    assert compile_error_reason(message) == reason
