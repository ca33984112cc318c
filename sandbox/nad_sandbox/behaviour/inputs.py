"""Collect the inputs on which programs are observed: a prompt's examples, generated values, and proposed inputs."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, zip_longest

from nad_sandbox.behaviour.file_driver import file_driver_source
from nad_sandbox.behaviour.input_set import InputProposer, Inputs
from nad_sandbox.behaviour.json_schema import json_schema, json_value
from nad_sandbox.behaviour.parameter_types import ValueType, parameter_types
from nad_sandbox.behaviour.script_source import generate_standard_input
from nad_sandbox.behaviour.target_function import TargetFunction
from nad_sandbox.behaviour.value_generation import generate_arguments
from nad_sandbox.checks.examples import find_examples
from nad_sandbox.checks.guarded_parse import LONGEST_PROGRAM, PARSE_ERRORS, parse_expression, unparse

__all__ = ["call_inputs", "script_inputs"]

_KEYWORDS = ("alpha", "beta", "gamma", "delta")
"""Names under which a function that takes ``**kwargs`` gets the arguments made for it."""

_SAMPLE = re.compile(
    r"^[#*\s]*(?:sample |example )?input[ \d#:*]*\n(?P<given>.*?)\n\s*[#*]*\s*(?:sample |example )?output",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)


def call_inputs(
    prompt: str,
    target: TargetFunction,
    *,
    count: int,
    propose: InputProposer | None = None,
    proposed_only: bool = False,
) -> Inputs:
    """Return calls of a function: the prompt's examples, then generated and proposed calls in turn, without duplicates.

    Examples make up at most half of the calls, unless there are too few others.

    Args:
        prompt: The prompt that the model answered.
        target: The function to call.
        count: Largest number of calls to return.
        propose: Function that proposes further inputs; see `InputProposer`.
        proposed_only: Whether the proposed calls are the only ones.

    Raises:
        ValueError: A proposed input is not plain data.
        SandboxUnavailableError: The package hypothesis, which generates values, is not installed.
    """
    calls = [_arguments(example.call, target) for example in find_examples(prompt)]
    given = list(dict.fromkeys(call for call in calls if call))
    rows = [_grouped(target, row) for call in given if (row := _plain_arguments(call)) is not None]
    values = [row for row in rows if len(row) == len(target.parameters)]
    value_types = parameter_types(target.parameters, values)
    generated = [] if proposed_only else [_call(target, row) for row in generate_arguments(value_types, count)]
    if any("function" in (value_type.name, *(part.name for part in value_type.parts)) for value_type in value_types):
        propose = None  # a proposal is JSON, which has no functions
    named = {parameter.name: value_type for parameter, value_type in zip(target.parameters, value_types, strict=True)}
    proposed = []
    if propose:
        schemas = {name: json_schema(value_type) for name, value_type in named.items()}
        proposed = [_proposed(item, target, named) for item in propose(prompt, schemas)]
    made = _mixed([] if proposed_only else given, generated, proposed, count)
    reads_files = any(value_type.name == "path" for value_type in value_types)
    return replace(made, driver=file_driver_source() if reads_files else "")


def script_inputs(
    prompt: str,
    *,
    count: int,
    programs: Sequence[str] = (),
    propose: InputProposer | None = None,
    proposed_only: bool = False,
) -> Inputs:
    """Return contents of standard input: the prompt's samples, or generated ones if it has none, and proposed ones.

    Args:
        prompt: The prompt that the model answered.
        count: Largest number of inputs to return.
        programs: Programs that will read the inputs; if they read nothing, one empty input is returned.
        propose: Function that proposes further inputs as text.
        proposed_only: Whether the proposed contents are the only ones.

    Raises:
        ValueError: A proposed input is not text.
    """
    samples = [match["given"].replace("```", "").strip("\n") + "\n" for match in _SAMPLE.finditer(prompt)]
    proposed = []
    for item in propose(prompt, None) if propose else ():
        if not isinstance(item, str):
            raise ValueError(f"the proposed input {item!r} is not text, which is what a script reads")  # noqa: TRY004 - a value
        proposed.append(item)
    if proposed_only:
        return Inputs(_mixed([], [], proposed, count).texts, 0, kind="script")
    generated = list(generate_standard_input(programs, count)) if not samples else []
    made = _mixed(list(dict.fromkeys(samples)), generated, proposed, count)
    return Inputs(made.texts or ("",), made.examples, kind="script")


def _mixed(given: list[str], generated: list[str], proposed: list[str], count: int) -> Inputs:
    rest = [text for text in chain.from_iterable(zip_longest(generated, proposed)) if text is not None]
    rest = [text for text in dict.fromkeys(rest) if text not in given]
    first = given[: max(count // 2, count - len(rest), 1)]
    return Inputs(tuple([*first, *rest][:count]), min(len(first), count))


def _parsed(call: str) -> ast.Call | None:
    tree = parse_expression(call, longest=LONGEST_PROGRAM)
    return tree.body if tree is not None and isinstance(tree.body, ast.Call) else None


def _plain_arguments(call: str) -> list[object] | None:
    """Return the positional arguments of a call; None when an argument is not plain data or has a name."""
    tree = _parsed(call)
    if tree is None or tree.keywords:
        return None
    try:
        return [ast.literal_eval(node) for node in tree.args]
    except PARSE_ERRORS:
        return None


def _is_plain(call: str) -> bool:
    """Return whether all arguments of a call, those with a name too, are plain data; may raise `PARSE_ERRORS`."""
    tree = _parsed(call)
    for node in [] if tree is None else [*tree.args, *(keyword.value for keyword in tree.keywords)]:
        ast.literal_eval(node)
    return tree is not None


def _arguments(call: str, target: TargetFunction) -> str | None:
    """Return the call of the target in an example, alone or within other calls; None if its arguments are not plain."""
    tree = parse_expression(call, longest=LONGEST_PROGRAM)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            text = unparse(node)
            named = node.func.id == target.callee.rpartition(".")[2]
            if named and text is not None and _plain_arguments(text) is not None:
                return target.callee + text[text.index("(") :]
    return None


def _grouped(target: TargetFunction, row: list[object]) -> list[object]:
    """Return positional arguments by parameter: those of ``*args`` as one list; none are left for ``**kwargs``."""
    places = [place for place, parameter in enumerate(target.parameters) if parameter.variadic]
    if places and not target.parameters[places[0]].keyword_only:
        row = [*row[: places[0]], row[places[0] :]]
    return [*row, *([] for place in places if target.parameters[place].keyword_only)]


def _call(target: TargetFunction, arguments: Sequence[object]) -> str:
    """Return the source of a call; arguments beyond the parameters go by position."""
    written = []
    for parameter, argument in zip(target.parameters, arguments, strict=False):
        if not parameter.variadic:
            written.append(f"{parameter.name}={argument!r}" if parameter.keyword_only else repr(argument))
        elif isinstance(argument, Sequence) and not isinstance(argument, str):
            names = [f"{name}=" for name in _KEYWORDS] if parameter.keyword_only else [""] * len(argument)
            written += [f"{name}{value!r}" for name, value in zip(names, argument, strict=False)]
        else:
            written.append(repr(argument))
    written += map(repr, arguments[len(target.parameters) :])
    return f"{target.callee}({', '.join(written)})"


def _proposed(item: object, target: TargetFunction, value_types: Mapping[str, ValueType]) -> str:
    """Return a proposed input as the source of a call."""
    if isinstance(item, Mapping) and item.keys() == value_types.keys():
        # arguments go by position, since candidates may name their parameters as they like
        item = [json_value(value_type, item[name]) for name, value_type in value_types.items()]
    try:
        if isinstance(item, str):
            call = _arguments(item, target)
            if call is not None:
                return call
        elif isinstance(item, Mapping):
            text = f"{target.callee}({', '.join(f'{name}={value!r}' for name, value in item.items())})"
            if _is_plain(text):
                return text
        elif isinstance(item, Sequence):
            text = _call(target, item)
            if _is_plain(text):
                return text
    except PARSE_ERRORS:
        pass
    raise ValueError(
        f"the proposed input {item!r} cannot be used: give a list of plain arguments, a mapping of names to plain "
        f"arguments, or the source of a call such as {target.callee}(...)"
    )
