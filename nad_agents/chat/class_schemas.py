"""JSON schemas of Python classes as grammars need them: recursive ones whole, and decimals as numbers."""

from __future__ import annotations

import sys
import types
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import PydanticUserError, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from typing_extensions import TypedDict, is_typeddict

from nad_agents.constrained.subschemas import inline_root

__all__ = ["class_schema", "plain_class_schema", "typed_dict_schema"]


class _NumbersForDecimals(GenerateJsonSchema):
    """Describes a Decimal as a number; pydantic also allows strings, but cannot read all of those back."""

    # a default that JSON cannot express, such as a factory, cannot be the answer's default either
    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012

    def decimal_schema(self, schema: Any) -> JsonSchemaValue:
        described = super().decimal_schema(schema)
        numbers = [part for part in described.get("anyOf", ()) if part.get("type") == "number"]
        return numbers[0] if numbers else {"type": "number"}


class _Plain(GenerateJsonSchema):
    ignored_warning_kinds = _NumbersForDecimals.ignored_warning_kinds


def class_schema(cls: Any) -> dict[str, Any]:
    """Return the JSON schema of a class, with its ``$defs`` and an object at the root.

    Args:
        cls: A class of pydantic v2, a dataclass, or another type that pydantic knows.
    """
    return inline_root(TypeAdapter(cls).json_schema(schema_generator=_NumbersForDecimals))


def plain_class_schema(cls: Any) -> dict[str, Any]:
    """Return the JSON schema of a class as pydantic writes it."""
    return inline_root(TypeAdapter(cls).json_schema(schema_generator=_Plain))


def typed_dict_schema(cls: Any) -> dict[str, Any] | None:
    """Return the JSON schema of a TypedDict; None if the type of one of its fields has no JSON schema.

    Args:
        cls: A TypedDict of `typing` or `typing_extensions`.
    """
    try:
        return class_schema(_readable(cls, {}) if sys.version_info < (3, 12) else cls)
    except (NameError, TypeError, PydanticUserError):
        return None


def _readable(cls: Any, copies: dict[Any, Any]) -> Any:
    """Replace every TypedDict in a type by one of `typing_extensions`, which pydantic requires before Python 3.12.

    Args:
        cls: The type.
        copies: The copies made so far, by the original class.
    """
    if is_typeddict(cls):
        if cls in copies:
            return copies[cls]
        copy: Any = TypedDict(cls.__name__, dict.fromkeys(cls.__annotations__, Any))  # type: ignore[misc]
        copies[cls] = copy
        copy.__doc__ = cls.__doc__
        copy.__required_keys__ = cls.__required_keys__
        copy.__optional_keys__ = cls.__optional_keys__
        hints = get_type_hints(cls, include_extras=True)
        copy.__annotations__ = {name: _readable(hint, copies) for name, hint in hints.items()}
        return copy
    arguments = tuple(_readable(part, copies) if _is_type(part) else part for part in get_args(cls))
    if arguments == get_args(cls):
        return cls
    if get_origin(cls) is Annotated:
        return Annotated[(arguments[0], *cls.__metadata__)]
    if isinstance(cls, types.UnionType):
        return Union[arguments]  # noqa: UP007 - of a number of types that is not known here
    return (
        types.GenericAlias(get_origin(cls), arguments)
        if isinstance(cls, types.GenericAlias)
        else cls.copy_with(arguments)
    )


def _is_type(part: Any) -> bool:
    """Return whether an argument of a type is itself a type, not a value of a Literal or metadata of an Annotated."""
    return isinstance(part, type) or get_origin(part) is not None
