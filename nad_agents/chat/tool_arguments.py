"""Check the arguments of tool calls against the tool's schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonschema import ValidationError
    from jsonschema.protocols import Validator

__all__ = ["ArgumentsError", "fitting_arguments", "named_arguments"]

_LONGEST_REASON = 300
_PYTHON_WORDS = {"True": "true", "False": "false"}
"""Python's names of JSON's constants, which some models write instead."""


class ArgumentsError(ValueError):
    """The arguments of a call do not fit the tool's schema; the message names the first fault."""


def fitting_arguments(arguments: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call after checking that they fit the tool's schema.

    Two common faults are repaired if the meaning is certain. If a string stands where the schema allows none, but its
    text is JSON that the schema allows there, it becomes that JSON, such as "5" for an integer. A null for an optional
    property that does not allow null is removed.

    Patterns, formats and multiples of fractions are left to the tool: a pattern may take forever on some texts, and
    fractions are not exact. A schema that is not valid JSON Schema accepts all arguments.

    Args:
        arguments: The arguments as the model wrote them.
        parameters: The tool's schema; an empty one accepts all arguments.

    Raises:
        ArgumentsError: The arguments do not fit the schema, are a copy of it, or hold a number that JSON cannot write.
    """
    try:
        fitting = _copied(arguments)
    except (ValueError, RecursionError) as error:
        msg = f"the arguments are no JSON: {error}"
        raise ArgumentsError(msg) from error
    properties = parameters.get("properties")
    if {"type", "properties"} <= arguments.keys() - (properties.keys() if isinstance(properties, Mapping) else set()):
        msg = "the arguments are a schema, not values"
        raise ArgumentsError(msg)
    # a repaired value may itself contain a fault, such as a list that was written as a string
    while faults := _faults(fitting, parameters):
        mended = next(filter(None, (_mended(fitting, parameters, fault) for fault in faults)), None)
        if mended is None:
            raise ArgumentsError(_reason(faults))
        fitting = mended
    return fitting


def named_arguments(arguments: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Return whether the schema names every argument, or explicitly allows others.

    Args:
        arguments: The arguments of the JSON that may be a call.
        parameters: The tool's schema.
    """
    properties = parameters.get("properties")
    if not isinstance(properties, Mapping) or parameters.get("additionalProperties"):
        return True
    return arguments.keys() <= properties.keys()


def _faults(arguments: Mapping[str, Any], parameters: Mapping[str, Any]) -> list[ValidationError]:
    """Return the arguments' violations of the schema; nothing if the schema itself is invalid."""
    from jsonschema import SchemaError
    from jsonschema.exceptions import UndefinedTypeCheck, UnknownType
    from referencing.exceptions import Unresolvable

    try:
        _validator_class().check_schema(parameters)
        return list(_validator(parameters).iter_errors(arguments))
    except (SchemaError, UnknownType, UndefinedTypeCheck, Unresolvable, RecursionError):
        return []


def _validator(schema: Mapping[str, Any]) -> Validator:
    from referencing import Registry

    # its own registry keeps the validator from fetching a schema from an address that a client names
    validator: Validator = _validator_class()(schema, registry=Registry())
    return validator


@cache
def _validator_class() -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    rules: Mapping[str, Any] = Draft202012Validator.VALIDATORS

    def unchecked(*_: Any) -> Iterator[Any]:
        return iter(())

    def multiple_of(validator: Any, divisor: Any, instance: Any, schema: Any) -> Any:
        return rules["multipleOf"](validator, divisor, instance, schema) if isinstance(divisor, int) else ()

    def additional_properties(validator: Any, allowed: Any, instance: Any, schema: Any) -> Any:
        rule = rules["additionalProperties"]
        return () if "patternProperties" in schema else rule(validator, allowed, instance, schema)

    patterns = ("pattern", "patternProperties", "unevaluatedProperties")
    return extend(  # type: ignore[no-untyped-call]
        Draft202012Validator,
        {
            **dict.fromkeys(patterns, unchecked),
            "multipleOf": multiple_of,
            "additionalProperties": additional_properties,
            # the grammars also follow only one of several alternatives
            "oneOf": rules["anyOf"],
        },
    )


def _mended(arguments: dict[str, Any], parameters: Mapping[str, Any], fault: ValidationError) -> dict[str, Any] | None:
    """Return the arguments with one fault repaired if it is certain what the model meant, else None."""
    path = list(fault.absolute_path)
    if not path or not (fault.instance is None or isinstance(fault.instance, str)):
        return None
    mended = _copied(arguments)
    holder: Any = mended
    for key in path[:-1]:
        holder = holder[key]
    if isinstance(fault.instance, str):
        try:
            holder[path[-1]] = json.loads(_PYTHON_WORDS.get(fault.instance.strip(), fault.instance))
            mended = _copied(mended)
        except (ValueError, RecursionError):
            return None
    elif isinstance(holder, dict):
        del holder[path[-1]]
    else:
        return None
    # the new value itself must be valid; faults inside it are repaired next
    before, after = (
        sum(len(found.absolute_path) <= len(path) for found in _faults(given, parameters))
        for given in (arguments, mended)
    )
    return mended if after < before else None


def _copied(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of JSON data; raise ValueError for infinite numbers and NaN."""
    # the JSON decoder copes with the nesting that the arguments were read with, unlike copy.deepcopy
    copied: dict[str, Any] = json.loads(json.dumps(arguments, allow_nan=False))
    return copied


def _reason(faults: Sequence[ValidationError]) -> str:
    from jsonschema.exceptions import best_match

    # if several alternatives failed, the one nearest to the value is reported
    fault = best_match(iter(faults)) or faults[0]
    where = ".".join(map(str, fault.absolute_path))
    text = " ".join(f"{where}: {fault.message}".split()) if where else fault.message
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 4]} ..."
