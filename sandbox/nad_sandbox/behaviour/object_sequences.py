"""Sequences of steps on an object of the candidates' class: construct it, call methods, then read its state."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from itertools import chain
from typing import Any, Literal

from nad_sandbox.behaviour.input_set import InputProposer, Inputs
from nad_sandbox.behaviour.parameter_types import parameter_types
from nad_sandbox.behaviour.target_class import TargetClass
from nad_sandbox.behaviour.target_function import Parameter
from nad_sandbox.behaviour.value_generation import generate_arguments
from nad_sandbox.checks.guarded_parse import PARSE_ERRORS

__all__ = ["Step", "class_inputs", "object_inputs", "sequence_schema"]

_CALLS = 3
"""Number of method calls in a generated sequence, before the object's state is read."""


@dataclass(frozen=True)
class Step:
    """One operation on an object.

    Attributes:
        kind: `call` calls a method, `get` reads an attribute, `set` assigns one, `view` applies a built-in
            function such as `str`, `compare` applies an operator to the object and another one of its class.
        name: Name of the method, attribute or function, or the operator.
        arguments: Positional arguments of the method, or of the constructor of the other object.
    """

    kind: Literal["call", "get", "set", "view", "compare"]
    name: str
    arguments: tuple[object, ...] = ()

    @property
    def text(self) -> str:
        """The step as a person would write it, without the object."""
        if self.kind == "call":
            return f"{self.name}({_shown(self.arguments)})"
        if self.kind == "set":
            return f"{self.name} = {_shown(self.arguments)}"
        return self.name if self.kind == "get" else f"{self.name}()"


def _driver_source() -> str:
    return resources.files("nad_sandbox.behaviour").joinpath("object_driver.py").read_text(encoding="utf-8")


def class_inputs(
    prompt: str,
    targets: Sequence[TargetClass],
    *,
    count: int,
    propose: InputProposer | None = None,
    proposed_only: bool = False,
) -> Inputs:
    """Return sequences of steps on objects of one or more classes; see `object_inputs`.

    Args:
        prompt: The prompt that the model answered.
        targets: The classes; each gets an equal share of the sequences.
        count: Largest number of sequences to return.
        propose: Function that proposes further sequences for the first class.
        proposed_only: Whether the proposed sequences are the only ones.

    Raises:
        ValueError: A proposed sequence is not plain data of the form that `sequence_schema` describes.
        SandboxUnavailableError: The package hypothesis, which generates values, is not installed.
    """
    first, *others = targets[:1] if proposed_only else targets
    share = count // (1 + len(others))
    made = [
        object_inputs(prompt, first, count=count - share * len(others), propose=propose, proposed_only=proposed_only),
        *(object_inputs(prompt, other, count=share) for other in others),
    ]
    return replace(
        made[0],
        texts=tuple(chain.from_iterable(one.texts for one in made)),
        shown=tuple(chain.from_iterable(one.shown for one in made)),
    )


def object_inputs(
    prompt: str,
    target: TargetClass,
    *,
    count: int,
    propose: InputProposer | None = None,
    proposed_only: bool = False,
) -> Inputs:
    """Return sequences of steps on objects of a class; proposed and generated sequences alternate.

    The generated sequences call each method first in turn, with usual values more often than with edge cases. Each
    sequence ends by reading the object's state.

    Args:
        prompt: The prompt that the model answered.
        target: The class.
        count: Largest number of sequences to return.
        propose: Function that proposes further sequences, as mappings of the form that `sequence_schema` describes.
        proposed_only: Whether the proposed sequences are the only ones.

    Raises:
        ValueError: A proposed sequence is not plain data of that form.
        SandboxUnavailableError: The package hypothesis, which generates values, is not installed.
    """
    if not target.methods:
        propose = None  # a proposal calls methods
    proposed = [_proposed(item, target) for item in (propose(prompt, sequence_schema(target)) if propose else ())]
    generated = [] if proposed_only else _generated(target, count)
    mixed: dict[str, tuple[str, ...]] = {}
    for place in range(max(len(generated), len(proposed))):
        for sequences in (generated, proposed):
            if place < len(sequences):
                text, shown = _written(*sequences[place])
                mixed.setdefault(text, shown)
    kept = dict(list(mixed.items())[:count])
    return Inputs(tuple(kept), 0, kind="object", shown=tuple(kept.values()), driver=_driver_source())


def sequence_schema(target: TargetClass) -> dict[str, dict[str, Any]]:
    """Return the JSON schemas that a proposer gets: of the constructor's arguments and of the calls that follow."""
    value = {"anyOf": [{"type": kind} for kind in ("integer", "number", "string", "boolean")]}
    values = {"type": "array", "items": value, "maxItems": 6}
    call = {
        "type": "object",
        "properties": {"method": {"enum": [method.name for method in target.methods]}, "arguments": values},
        "required": ["method", "arguments"],
        "additionalProperties": False,
    }
    return {
        "constructor_arguments": values,
        "method_calls": {"type": "array", "items": call, "minItems": 1, "maxItems": 6},
    }


_Sequence = tuple[str, tuple[object, ...] | None, tuple[Step, ...]]
"""The source of what makes an object, its arguments (None for an object that exists), and the steps on the object."""


def _generated(target: TargetClass, count: int) -> list[_Sequence]:
    """Return sequences that begin with each method in turn and go on with random calls from a fixed seed."""
    constructors = _rows(target.constructor, count)
    rows = {method.name: _rows(method.parameters, count) for method in target.methods}
    assigned = {setter.name: _rows(setter.parameters, count) for setter in target.setters}
    draw = random.Random(0)
    sequences: list[_Sequence] = []
    for place, (maker, arguments) in enumerate(_makers(target, constructors, count)):
        steps: list[Step] = []
        if target.methods:
            first = target.methods[place % len(target.methods)].name
            names = [first, *draw.choices([method.name for method in target.methods], k=_CALLS - 1)]
            steps += [Step("call", name, tuple(draw.choice(rows[name][: place + 2]))) for name in names]
        steps += [Step("set", name, draw.choice(given)) for name, given in assigned.items() if given]
        steps += [Step("get", name) for name in target.attributes]
        steps += [Step("view", name) for name in target.views]
        if arguments is not None:
            other = constructors[(place + 1) % len(constructors)]
            steps += [Step("compare", name, other) for name in target.operators]
            if maker == target.name and "==" in target.operators:
                steps.append(Step("compare", "==", arguments))
        sequences.append((maker, arguments, tuple(steps)))
    if target.members:
        sequences.insert(0, (target.name, None, (Step("view", "list"),)))
    return sequences


def _makers(
    target: TargetClass, constructors: Sequence[tuple[object, ...]], count: int
) -> list[tuple[str, tuple[object, ...] | None]]:
    """Return what makes the object of each sequence: a member, the constructor, or sometimes another maker."""
    if target.members:
        return [(f"{target.name}.{target.members[place % len(target.members)]}", None) for place in range(count)]
    factories = [
        (f"{target.name}.{factory.name}", row)
        for factory in target.factories
        for row in _rows(factory.parameters, count)
    ]
    made: list[tuple[str, tuple[object, ...] | None]] = []
    for place in range(count):
        if factories and place % 3 == 2:
            made.append(factories[place // 3 * max(len(factories) * 3 // count, 1) % len(factories)])
        else:
            made.append((target.name, constructors[place // (2 if target.methods else 1) % len(constructors)]))
    return made


def _rows(parameters: Sequence[Parameter], count: int) -> list[tuple[object, ...]]:
    """Return rows of positional arguments, beginning with the most usual ones."""
    rows = sorted(
        generate_arguments(parameter_types(parameters, []), count), key=lambda row: any(not value for value in row)
    )
    if parameters and parameters[-1].variadic:
        return [(*row[:-1], *row[-1]) for row in rows if isinstance(row[-1], list)]
    return rows


def _proposed(item: object, target: TargetClass) -> _Sequence:
    """Return a proposed sequence as steps; raise ValueError if it does not have the form of `sequence_schema`."""
    try:
        assert isinstance(item, Mapping)
        known = {method.name for method in target.methods}
        arguments = _plain(item["constructor_arguments"])
        steps = [Step("call", call["method"], _plain(call["arguments"])) for call in item["method_calls"]]
        if {step.name for step in steps} <= known:
            looks = [Step("get", name) for name in target.attributes]
            return target.name, arguments, (*steps, *looks)
    except (AssertionError, KeyError, *PARSE_ERRORS):
        pass
    raise ValueError(
        f"the proposed input {item!r} cannot be used: give a mapping with the lists constructor_arguments and "
        f"method_calls, of which each has a method of {target.name} and its arguments as plain data"
    )


def _plain(values: Iterable[object]) -> tuple[object, ...]:
    return tuple(ast.literal_eval(repr(list(values))))


def _written(maker: str, arguments: tuple[object, ...] | None, steps: Sequence[Step]) -> tuple[str, tuple[str, ...]]:
    """Return the driver's call for a sequence, and for each step the statements that lead to it, for people."""
    told = [(step.kind, step.name, step.arguments) for step in steps]
    call = f"_nad_observe_object({maker!r}, {arguments!r}, {told!r})"
    done = [maker if arguments is None else f"{maker}({_shown(arguments)})"]
    shown = []
    for step in steps:
        text = f"{step.name} {maker}({_shown(step.arguments)})" if step.kind == "compare" else step.text
        shown.append("; ".join([*done, text]))
        if step.kind in ("call", "set"):
            done.append(step.text)
    return call, tuple(shown)


def _shown(arguments: Sequence[object]) -> str:
    return ", ".join(map(repr, arguments))
