"""Schemas that no finite value fits are refused by name, before anything is generated."""

import pytest

from nad_agents import ConfigurationError
from nad_agents.constrained.finite_values import endless_reference
from tests.unit.constrained.schemas import NODE, SCHEMAS, shaped
from tests.unit.langchain.chats import roomy_decoder, tiny_chat


def node(schema, **more):
    return {"type": "object", "properties": {"next": schema}, "required": ["next"], **more}


REF = {"$ref": "#/$defs/N"}
ENDLESS = {
    "a reference to itself": {"$defs": {"N": REF}, **REF},
    "the whole": {"$ref": "#"},
    "required": {"$defs": {"N": node(REF)}, **REF},
    "required of the whole": node({"$ref": "#"}),
    "a circle": {"$defs": {"N": node({"$ref": "#/$defs/M"}), "M": node(REF)}, **REF},
    "items": {"$defs": {"N": node({"type": "array", "items": REF, "minItems": 1})}, **REF},
    "alternatives": {"$defs": {"N": node({"anyOf": [REF, node(REF)]})}, **REF},
    "all": {"$defs": {"N": {"allOf": [node(REF)]}}, **REF},
}
FINITE = {
    **SCHEMAS,
    "a tree": {"$defs": {"N": NODE}, **REF},
    "null": {"$defs": {"N": node({"anyOf": [REF, {"type": "null"}]})}, **REF},
    "optional": {"$defs": {"N": {"type": "object", "properties": {"next": REF}}}, **REF},
    "endless, but optional": {"$defs": {"N": node(REF)}, "type": "object", "properties": {"x": REF}},
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_has_no_finite_value(name):
    assert endless_reference(ENDLESS[name]) is not None


@pytest.mark.parametrize("name", FINITE)
def test_what_has_one(name):
    assert endless_reference(FINITE[name]) is None


@pytest.mark.parametrize("name", ENDLESS)
def test_it_is_refused_by_name(name):
    chat = tiny_chat(decoder=roomy_decoder(), max_tokens=60)
    with pytest.raises(ConfigurationError, match=r"the schema of the response format has no finite value: #"):
        chat.invoke("hello", response_format=shaped(ENDLESS[name]))
