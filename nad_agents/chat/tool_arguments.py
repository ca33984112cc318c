"""The arguments of tool calls, held against the tool's schema."""

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
"""How models that know Python write JSON's words."""


class ArgumentsError(ValueError):
    """The arguments of a call do not fit the tool's schema; the message names the first fault."""


def fitting_arguments(arguments: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call after checking that they fit the tool's schema.

    Two habits of models are mended where the meaning is certain. A string where the schema takes no string, whose text
    is JSON that the schema takes there, becomes that JSON, such as "5" for an integer. A null for a property that is
    neither required nor takes null is left out.

    Patterns, formats and multiples of fractions are left to the tool: a pattern may take forever on some texts, and
    fractions are not exact. A schema that is no valid JSON Schema lets every argument through.

    Args:
        arguments: The arguments as the model wrote them.
        parameters: The tool's schema; an empty one takes every argument.

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
    # a mended value may show a fault within the value, such as in a list that was written as a string
    while faults := _faults(fitting, parameters):
        mended = next(filter(None, (_mended(fitting, parameters, fault) for fault in faults)), None)
        if mended is None:
            raise ArgumentsError(_reason(faults))
        fitting = mended
    return fitting


def named_arguments(arguments: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Return whether the schema names every argument, or says that there may be others.

    Args:
        arguments: The arguments of what may be a call.
        parameters: The tool's schema.
    """
    properties = parameters.get("properties")
    if not isinstance(properties, Mapping) or parameters.get("additionalProperties"):
        return True
    return arguments.keys() <= properties.keys()


def _faults(arguments: Mapping[str, Any], parameters: Mapping[str, Any]) -> list[ValidationError]:
    """Return what does not fit; nothing where the schema itself cannot be used."""
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

    # with a registry of its own the validator fetches no schema from an address that a client names
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
            # as in the grammars, which keep to one of several alternatives
            "oneOf": rules["anyOf"],
        },
    )


def _mended(arguments: dict[str, Any], parameters: Mapping[str, Any], fault: ValidationError) -> dict[str, Any] | None:
    """Return the arguments with one fault mended where it is certain what the model meant, else None."""
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
    # what is wrong within the new value comes next; what is wrong with the value must be gone
    before, after = (
        sum(len(found.absolute_path) <= len(path) for found in _faults(given, parameters))
        for given in (arguments, mended)
    )
    return mended if after < before else None


def _copied(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of JSON; raises a ValueError for infinite numbers and NaN."""
    # the decoder goes as deep as the one that read the arguments, which copy.deepcopy does not
    copied: dict[str, Any] = json.loads(json.dumps(arguments, allow_nan=False))
    return copied


def _reason(faults: Sequence[ValidationError]) -> str:
    from jsonschema.exceptions import best_match

    # of several alternatives the one that is nearest to the value
    fault = best_match(iter(faults)) or faults[0]
    where = ".".join(map(str, fault.absolute_path))
    text = " ".join(f"{where}: {fault.message}".split()) if where else fault.message
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 4]} ..."
