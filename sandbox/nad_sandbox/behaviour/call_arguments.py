"""The arguments of one call, by position and by name, and generated rows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nad_sandbox.behaviour.parameter_types import OwnTypes, ValueType, parameter_types
from nad_sandbox.behaviour.signature import Parameter, Signature
from nad_sandbox.behaviour.value_generation import generate_arguments

__all__ = ["Arguments", "arguments_for", "generate_calls"]

_KEYWORDS = ("alpha", "beta", "gamma", "delta")
"""Names under which a function that takes ``**kwargs`` gets the arguments made for it."""


@dataclass(frozen=True)
class Arguments:
    """The arguments of one call.

    Attributes:
        positional: Arguments that are given by position.
        by_name: Names and values of arguments that are given by name.
    """

    positional: tuple[object, ...] = ()
    by_name: tuple[tuple[str, object], ...] = ()

    @property
    def text(self) -> str:
        """The source of the arguments, without parentheses."""
        return ", ".join([*map(repr, self.positional), *(f"{name}={value!r}" for name, value in self.by_name)])

    @property
    def usual(self) -> bool:
        """Whether every argument is a usual value: empty ones and zeros are edge cases."""
        return all(self.positional) and all(value for _, value in self.by_name)


def arguments_for(parameters: Sequence[Parameter], values: Sequence[object]) -> Arguments:
    """Return the arguments of a call with one value for each parameter; values beyond these go by position."""
    positional: list[object] = []
    by_name: list[tuple[str, object]] = []
    for parameter, value in zip(parameters, values, strict=False):
        if not parameter.variadic:
            if parameter.keyword_only:
                by_name.append((parameter.name, value))
            else:
                positional.append(value)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            if parameter.keyword_only:
                by_name += zip(_KEYWORDS, value, strict=False)
            else:
                positional += value
        else:
            positional.append(value)
    return Arguments((*positional, *values[len(parameters) :]), tuple(by_name))


def generate_calls(
    parameters: Signature,
    count: int,
    *,
    optional: Signature = (),
    own: OwnTypes | None = None,
    value_types: Sequence[ValueType] | None = None,
) -> list[Arguments]:
    """Return generated arguments; every second call gets the optional ones too.

    Args:
        parameters: The parameters to which every call gives arguments.
        count: Largest number of calls to return.
        optional: Further parameters, which have a default value.
        own: Values of the program's own types.
        value_types: Types of the parameters; default: what type hints and names say.
    """
    rows = generate_arguments(value_types or parameter_types(parameters, [], own), count)
    made = [arguments_for(parameters, row) for row in rows]
    if not optional:
        return made
    further = [
        arguments_for(optional, row).by_name for row in generate_arguments(parameter_types(optional, [], own), count)
    ]
    alternating: dict[str, Arguments] = {}
    for place in range(count):
        one = made[place // (1 if len(made) > 1 else 2) % len(made)]
        extra = further[place // 2 % len(further)] if place % 2 else ()
        given = Arguments(one.positional, (*one.by_name, *extra))
        alternating.setdefault(given.text, given)
    return list(alternating.values())
