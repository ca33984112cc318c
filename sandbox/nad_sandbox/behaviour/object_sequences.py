"""Sequences of steps on an object of the class that candidates define: construct it, call methods, look at it."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

from nad_sandbox.behaviour.input_set import InputProposer, Inputs
from nad_sandbox.behaviour.parameter_types import parameter_types
from nad_sandbox.behaviour.target_class import TargetClass
from nad_sandbox.behaviour.target_function import Parameter
from nad_sandbox.behaviour.value_generation import generate_arguments
from nad_sandbox.checks.guarded_parse import PARSE_ERRORS

__all__ = ["Step", "object_inputs", "sequence_schema"]

_CALLS = 3
"""Methods that are called in a generated sequence, before the object is looked at."""


@dataclass(frozen=True)
class Step:
    """One thing that is done with an object.

    Attributes:
        kind: `call` of a method, `get` of an attribute, or `view` by a built-in function such as `str`.
        name: the method, attribute or function.
        arguments: a method's positional arguments.
    """

    kind: Literal["call", "get", "view"]
    name: str
    arguments: tuple[object, ...] = ()

    @property
    def text(self) -> str:
        """The step as people write it, without the object."""
        if self.kind == "call":
            return f"{self.name}({_shown(self.arguments)})"
        return self.name if self.kind == "get" else f"{self.name}()"


def _driver_source() -> str:
    return resources.files("nad_sandbox.behaviour").joinpath("object_driver.py").read_text(encoding="utf-8")


def object_inputs(prompt: str, target: TargetClass, *, count: int, propose: InputProposer | None = None) -> Inputs:
    """Return sequences of steps on objects of a class, proposed and generated ones in turn.

    Every method is called in some sequence, with usual values more often than with edge cases, and each sequence ends
    by looking at the object.

    Args:
        prompt: what the model was asked.
        target: the class.
        count: the most sequences to return.
        propose: returns further sequences, as mappings of the form that `sequence_schema` describes.

    Raises:
        ValueError: a proposed sequence is not plain data of that form.
        SandboxUnavailableError: hypothesis, which generates values, is not installed.
    """
    proposed = [_proposed(item, target) for item in (propose(prompt, sequence_schema(target)) if propose else ())]
    generated = _generated(target, count)
    mixed: dict[str, tuple[str, ...]] = {}
    for place in range(max(len(generated), len(proposed))):
        for sequences in (generated, proposed):
            if place < len(sequences):
                arguments, steps = sequences[place]
                text, shown = _written(target, arguments, steps)
                mixed.setdefault(text, shown)
    kept = dict(list(mixed.items())[:count])
    return Inputs(tuple(kept), 0, kind="object", shown=tuple(kept.values()), driver=_driver_source())


def sequence_schema(target: TargetClass) -> dict[str, dict[str, Any]]:
    """Return what a proposer is asked for: the constructor's arguments, and the calls that follow."""
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


_Sequence = tuple[tuple[object, ...], tuple[Step, ...]]


def _generated(target: TargetClass, count: int) -> list[_Sequence]:
    """Sequences that begin with each method in turn, and then call others at random, always the same ones."""
    constructors = _rows(target.constructor, count)
    rows = {method.name: _rows(method.parameters, count) for method in target.methods}
    looks = [Step("get", name) for name in target.attributes] + [Step("view", name) for name in target.views]
    draw = random.Random(0)
    sequences = []
    for place in range(count):
        first = target.methods[place % len(target.methods)].name
        names = [first, *draw.choices([method.name for method in target.methods], k=_CALLS - 1)]
        steps = [Step("call", name, tuple(draw.choice(rows[name][: place + 2]))) for name in names]
        sequences.append((tuple(constructors[(place // 2) % len(constructors)]), (*steps, *looks)))
    return sequences


def _rows(parameters: Sequence[Parameter], count: int) -> list[tuple[object, ...]]:
    """Rows of arguments, the most usual first."""
    rows = generate_arguments(parameter_types(parameters, []), count)
    return sorted(rows, key=lambda row: any(not value for value in row))


def _proposed(item: object, target: TargetClass) -> _Sequence:
    """A proposed sequence."""
    try:
        assert isinstance(item, Mapping)
        known = {method.name for method in target.methods}
        arguments = _plain(item["constructor_arguments"])
        steps = [Step("call", call["method"], _plain(call["arguments"])) for call in item["method_calls"]]
        if {step.name for step in steps} <= known:
            looks = [Step("get", name) for name in target.attributes]
            return arguments, (*steps, *looks)
    except (AssertionError, KeyError, *PARSE_ERRORS):
        pass
    raise ValueError(
        f"the proposed input {item!r} cannot be used: give a mapping with the lists constructor_arguments and "
        f"method_calls, of which each has a method of {target.name} and its arguments as plain data"
    )


def _plain(values: Iterable[object]) -> tuple[object, ...]:
    return tuple(ast.literal_eval(repr(list(values))))


def _written(target: TargetClass, arguments: Sequence[object], steps: Sequence[Step]) -> tuple[str, tuple[str, ...]]:
    """A sequence as a call of the driver, and each of its steps as people write what leads to it."""
    told = [(step.kind, step.name, step.arguments) for step in steps]
    call = f"_nad_observe_object({target.name!r}, {tuple(arguments)!r}, {told!r})"
    done = [f"{target.name}({_shown(arguments)})"]
    shown = []
    for step in steps:
        shown.append("; ".join([*done, step.text]))
        if step.kind == "call":
            done.append(step.text)
    return call, tuple(shown)


def _shown(arguments: Sequence[object]) -> str:
    return ", ".join(map(repr, arguments))
