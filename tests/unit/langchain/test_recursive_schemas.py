"""Recursive classes and decimals reach the grammar whole, whichever way they are given."""

import typing
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Literal, Optional

import jsonschema
import pydantic.v1
import pytest
import typing_extensions
from langchain_core.tools import tool
from langchain_nad.tools import openai_tools
from pydantic import BaseModel, Field

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


class Chapter(BaseModel):
    """A chapter."""

    part: "Part" = Field(description="the part that it belongs to")


class Part(BaseModel):
    """A part."""

    previous: Chapter | None = Field(default=None, description="the chapter before", title="Previous")
    notes: dict[str, "Part"] = {}


class Number(BaseModel):
    """A number."""

    kind: Literal["number"]
    value: int


class Negation(BaseModel):
    """A negation."""

    kind: Literal["neg"]
    of: "Expression"


class Product(BaseModel):
    """A product."""

    kind: Literal["mul"]
    left: "Expression"
    right: "Expression"


Expression = Annotated[Negation | Product | Number, Field(discriminator="kind")]


class Formula(BaseModel):
    """A formula."""

    expression: Expression


class Equal(BaseModel):
    """Whether a field has a value."""

    equal: str


class Inverse(BaseModel):
    """The opposite of a condition."""

    inverse: "Inverse | All | Equal"


class All(BaseModel):
    """Several conditions at once."""

    all_of: list["Inverse | All | Equal"] = Field(min_length=2)


for model in (Chapter, Negation, Product, Formula, Inverse):
    model.model_rebuild()


class OldTree(pydantic.v1.BaseModel):
    """A tree of pydantic v1."""

    value: int
    children: list["OldTree"] = []


OldTree.update_forward_refs()


class TreeDict(typing.TypedDict):
    """A tree as a dict."""

    value: typing.Required[int]
    children: Annotated[list["TreeDict"], ..., "its children"]
    more: typing.NotRequired["dict[str, TreeDict] | None"]


class LinkDict(typing_extensions.TypedDict, total=False):
    """A list as a dict."""

    next: Optional["LinkDict"]


@dataclass
class TreeData:
    """A tree as a dataclass."""

    value: int
    children: list["TreeData"] = field(default_factory=list)


class Gardener:
    def prune(self, tree: Tree) -> str:
        """Prune a tree."""
        return str(tree)


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
    "method": Gardener().prune,
    "class of pydantic v1": OldTree,
    "dict": TreeDict,
    "dict of typing_extensions": LinkDict,
    "dataclass": TreeData,
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
    arguments = {"class of classes": {"trees": [wrong]}, "dict of typing_extensions": {"next": {"next": 2}}}
    arguments |= {key: {"tree": wrong} for key in ("tool", "function", "method")}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(arguments.get(name, wrong), parameters)


@pytest.fixture(scope="module")
def decoder():
    return roomy_decoder()


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
@pytest.mark.parametrize("schema", [Tree, Forest, Price])
def test_objects_of_recursive_classes(decoder, schema, method):
    chat = tiny_chat(decoder=decoder, max_tokens=100, n=2)
    for seed in range(2):
        assert isinstance(chat.with_structured_output(schema, method=method).invoke("hello", seed=seed), schema)


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
@pytest.mark.parametrize("schema", [TreeDict, LinkDict, TreeData, OldTree])
def test_objects_of_recursive_types_that_are_no_models(decoder, schema, method):
    chat = tiny_chat(decoder=decoder, max_tokens=100, n=2)
    found = chat.with_structured_output(schema, method=method, include_raw=True).invoke("hello", seed=1)
    assert found["parsing_error"] is None


@pytest.mark.parametrize("limit", [80, 250])
@pytest.mark.parametrize("schema", [Chapter, Part, Formula, Inverse])
def test_every_recursive_object_ends_in_time(decoder, schema, limit):
    chat = tiny_chat(decoder=decoder, n=4, max_tokens=limit)
    found = chat.with_structured_output(schema, include_raw=True, include_candidates=True).invoke("hello")
    assert isinstance(found["parsed"], schema)
    for candidate in found["raw"].response_metadata["nad"]["candidates"]:
        schema.model_validate_json(candidate["text"])


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


def test_many_references_are_followed_once():
    definitions = {
        f"T{i}": {"properties": {name: {"$ref": f"#/$defs/T{i + 1}"} for name in "ab"}, "type": "object"}
        for i in range(40)
    }
    assert not is_recursive({"$ref": "#/$defs/T0", "$defs": definitions})
