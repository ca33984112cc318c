"""JSON schemas of pydantic classes as grammars need them: recursive ones whole, and decimals as numbers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from nad_agents.constrained.subschemas import inline_root

__all__ = ["class_schema"]


class _NumbersForDecimals(GenerateJsonSchema):
    """Describes a Decimal as a number; pydantic also allows strings, but cannot read all of those back."""

    def decimal_schema(self, schema: Any) -> JsonSchemaValue:
        described = super().decimal_schema(schema)
        numbers = [part for part in described.get("anyOf", ()) if part.get("type") == "number"]
        return numbers[0] if numbers else {"type": "number"}


def class_schema(cls: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a pydantic class, with its ``$defs`` and an object at the root.

    Args:
        cls: A class of pydantic v2.
    """
    return inline_root(cls.model_json_schema(schema_generator=_NumbersForDecimals))
