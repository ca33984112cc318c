"""The inputs for classes: generated sequences of steps on their objects, and sequences that a proposer writes."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any

from nad_sandbox.behaviour import object_steps
from nad_sandbox.behaviour.call_arguments import arguments_for
from nad_sandbox.behaviour.input_set import InputProposer, Inputs
from nad_sandbox.behaviour.object_sequences import driver_source, generate_sequences, reading_steps
from nad_sandbox.behaviour.object_steps import ObjectSequence
from nad_sandbox.behaviour.parameter_types import OwnTypes
from nad_sandbox.behaviour.target_class import TargetClass
from nad_sandbox.checks.guarded_parse import PARSE_ERRORS

__all__ = ["class_inputs", "object_inputs", "sequence_schema"]

_FEW = 4
"""Number of sequences that show all of an exception without methods."""


def class_inputs(
    prompt: str,
    targets: Sequence[TargetClass],
    *,
    count: int,
    propose: InputProposer | None = None,
    proposed_only: bool = False,
    own: OwnTypes | None = None,
) -> Inputs:
    """Return sequences of steps on objects of one or more classes.

    Each class gets an equal share of the sequences, except that exceptions without methods get only a few. The
    sequences of a class that are proposed and generated alternate.

    Args:
        prompt: The prompt that the model answered.
        targets: The classes.
        count: Largest number of sequences to return.
        propose: Function that proposes further sequences, as mappings of the form that `sequence_schema` describes.
        proposed_only: Whether the proposed sequences are the only ones.
        own: Values of the program's own types.

    Raises:
        ValueError: A proposed sequence is not plain data of that form.
        SandboxUnavailableError: The package hypothesis, which generates values, is not installed.
    """
    schema = sequence_schema(targets) if propose is not None else {}
    proposed: dict[str, list[ObjectSequence]] = {target.name: [] for target in targets}
    for item in propose(prompt, schema) if propose is not None and schema else ():
        target, sequence = _proposed(item, targets)
        proposed[target.name].append(sequence)
    made = []
    for target, share in _shares(targets, count):
        generated = [] if proposed_only else generate_sequences(target, share, own=own)
        mixed: dict[str, tuple[str, ...]] = {}
        for sequence in chain.from_iterable(zip_longest(generated, proposed[target.name])):
            if sequence is not None:
                text, shown = sequence.written()
                mixed.setdefault(text, shown)
        made.append(dict(list(mixed.items())[:share]))
    return Inputs(
        tuple(chain.from_iterable(made)),
        0,
        kind="object",
        shown=tuple(chain.from_iterable(one.values() for one in made)),
        driver=driver_source(targets),
    )


def object_inputs(
    prompt: str,
    target: TargetClass,
    *,
    count: int,
    propose: InputProposer | None = None,
    proposed_only: bool = False,
) -> Inputs:
    """Return sequences of steps on objects of one class; see `class_inputs`."""
    return class_inputs(prompt, [target], count=count, propose=propose, proposed_only=proposed_only)


def _shares(targets: Sequence[TargetClass], count: int) -> list[tuple[TargetClass, int]]:
    """Return the classes, those with most to show first, with the number of sequences of each."""
    simple = [target for target in targets if target.kind == "exception" and not target.methods]
    others = [target for target in targets if target not in simple]
    if not others:
        return [(target, max(count // len(targets), 1)) for target in simple]
    few = min(_FEW, max(count // (2 * len(targets)), 1))
    share, more = divmod(max(count - few * len(simple), len(others)), len(others))
    shares = [(target, share + (place < more)) for place, target in enumerate(others)]
    return [*shares, *((target, few) for target in simple)]


def sequence_schema(targets: TargetClass | Sequence[TargetClass]) -> dict[str, dict[str, Any]]:
    """Return the JSON schemas that a proposer gets: of the constructor's arguments and of the calls that follow.

    Of several classes the proposer also names the one that it means. Without anything to propose the result is empty.
    """
    targets = [targets] if isinstance(targets, TargetClass) else targets
    plain = [target for target in targets if target.kind in ("class", "exception") and not target.members]
    methods = list(dict.fromkeys(method.name for target in plain for method in target.methods))
    value = {"anyOf": [{"type": kind} for kind in ("integer", "number", "string", "boolean")]}
    values = {"type": "array", "items": value, "maxItems": 6}
    schema: dict[str, dict[str, Any]] = {"class": {"enum": [target.name for target in plain]}} if plain[1:] else {}
    if methods or any(target.constructor for target in plain):
        schema["constructor_arguments"] = values
    if methods:
        call = {
            "type": "object",
            "properties": {"method": {"enum": methods}, "arguments": values},
            "required": ["method", "arguments"],
            "additionalProperties": False,
        }
        schema["method_calls"] = {"type": "array", "items": call, "minItems": 1, "maxItems": 6}
    return schema if schema.keys() - {"class"} else {}


def _proposed(item: object, targets: Sequence[TargetClass]) -> tuple[TargetClass, ObjectSequence]:
    """Return the class that a proposed sequence concerns, and its steps; raise ValueError if it has another form."""
    try:
        assert isinstance(item, Mapping)
        calls = [(call["method"], _plain(call["arguments"])) for call in item.get("method_calls", ())]
        target = _concerned(targets, item.get("class"), [name for name, _ in calls])
        assert target is not None
        known = {method.name: method.parameters for method in target.methods}
        constructor = arguments_for(target.constructor, _plain(item["constructor_arguments"]))
        # a proposer that is held to the schema of several classes may mix up their methods
        steps = [object_steps.call(name, arguments_for(known[name], values)) for name, values in calls if name in known]
        steps += reading_steps(target)
        if steps:
            return target, ObjectSequence(f"{target.name}({constructor.text})", tuple(steps))
    except (AssertionError, KeyError, *PARSE_ERRORS):
        pass
    names = " or ".join(target.name for target in targets)
    raise ValueError(
        f"the proposed input {item!r} cannot be used: give a mapping with the lists constructor_arguments and "
        f"method_calls, of which each has a method of {names} and its arguments as plain data"
    )


def _concerned(targets: Sequence[TargetClass], named: object, calls: Iterable[str]) -> TargetClass | None:
    """Return the class that a proposal names if it has one of the called methods, or else the first that has them."""
    wanted = set(calls)
    methods = {target.name: {method.name for method in target.methods} for target in targets}
    if not wanted <= set().union(*methods.values()):
        return None
    ordered = sorted(targets, key=lambda target: target.name != named)
    fitting = [target for target in ordered if wanted <= methods[target.name]]
    partly = [target for target in ordered if wanted & methods[target.name]]
    return (fitting or partly or ordered)[0]


def _plain(values: Iterable[object]) -> tuple[object, ...]:
    return tuple(ast.literal_eval(repr(list(values))))
