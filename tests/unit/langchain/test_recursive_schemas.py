"""Recursive classes and decimals reach the grammar whole, whichever way they are given."""

from decimal import Decimal

import jsonschema
import pytest
from langchain_core.tools import tool
from langchain_nad.tools import openai_tools
from pydantic import BaseModel

from nad_agents.constrained.subschemas import inline_root, is_recursive
from tests.unit.langchain.chats import roomy_decoder, tiny_chat


class Tree(BaseModel):
    """A tree."""

    value: int
    children: list["Tree"] = []


class Forest(BaseModel):
    """Trees."""

    trees: list[Tree]


class Price(BaseModel):
    """A price."""

    amount: Decimal
    others: list[Decimal | None] = []


@tool
def plant(tree: Tree) -> str:
    """Plant a tree."""
    return str(tree)


def water(tree: Tree) -> str:
    """Water a tree."""
    return str(tree)


GIVEN = {
    "class": Tree,
    "class of classes": Forest,
    "tool": plant,
    "function": water,
    "schema": {**Tree.model_json_schema(), "title": "Tree", "description": "A tree."},
    "tool in OpenAI's form": {
        "type": "function",
        "function": {"name": "Tree", "description": "A tree.", "parameters": Tree.model_json_schema()},
    },
}


@pytest.mark.parametrize("name", GIVEN)
def test_a_tool_keeps_the_recursion(name):
    (converted,) = openai_tools([GIVEN[name]])
    parameters = converted["function"]["parameters"]
    assert is_recursive(parameters)
    wrong = {"value": 1, "children": [2, 3]}
    arguments = {"class of classes": {"trees": [wrong]}, "tool": {"tree": wrong}, "function": {"tree": wrong}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(arguments.get(name, wrong), parameters)


@pytest.fixture(scope="module")
def decoder():
    return roomy_decoder()


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
@pytest.mark.parametrize("schema", [Tree, Forest, Price])
def test_objects_of_recursive_classes(decoder, schema, method):
    chat = tiny_chat(decoder=decoder, max_tokens=200, n=2)
    for seed in range(2):
        assert isinstance(chat.with_structured_output(schema, method=method).invoke("hello", seed=seed), schema)


def test_calls_with_recursive_arguments(decoder):
    bound = tiny_chat(decoder=decoder, max_tokens=200, n=2).bind_tools([plant, Tree], tool_choice="any")
    message = bound.invoke("hello")
    assert message.tool_calls


def test_a_decimal_is_a_number():
    (converted,) = openai_tools([Price])
    assert converted["function"]["parameters"]["properties"]["amount"]["type"] == "number"


def test_a_reference_at_the_root_is_written_out():
    schema = inline_root(Tree.model_json_schema())
    assert schema["type"] == "object"
    assert schema["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}
    assert inline_root({"$ref": "#"})
    assert not is_recursive(Price.model_json_schema())
