"""Schemas as a response format."""


def shaped(schema):
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
