"""JSON schemas that answers are held to, and the response format that asks for one."""

from typing import Literal

from pydantic import BaseModel, Field


class Item(BaseModel):
    name: str
    price: float
    tags: list[str] = []


class Order(BaseModel):
    id: int
    kind: Literal["small", "large"]
    items: list[Item] = Field(min_length=1)
    gift: bool
    note: str | None


class Node(BaseModel):
    value: int
    children: list["Node"] = []


NODE = {
    "type": "object",
    "properties": {"v": {"type": "integer"}, "c": {"type": "array", "items": {"$ref": "#/$defs/N"}}},
    "required": ["v", "c"],
    "additionalProperties": False,
}

SCHEMAS = {
    "flat": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
    "nested": Order.model_json_schema(),
    "recursive": Node.model_json_schema(),
    "enum": {"type": "object", "properties": {"c": {"enum": ["x", 3, None]}}, "required": ["c"]},
    "pattern": {
        "type": "object",
        "properties": {"d": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}$"}},
        "required": ["d"],
    },
    "numbers": {
        "type": "object",
        "properties": {"i": {"type": "integer"}, "f": {"type": "number"}, "m": {"type": "integer", "minimum": 5}},
        "required": ["i", "f", "m"],
    },
    "array": {"type": "array", "items": {"type": "integer"}, "minItems": 2},
}


def shaped(schema):
    """The response format of a schema."""
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
