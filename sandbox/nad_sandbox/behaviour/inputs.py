"""Collect the inputs on which programs are observed: a prompt's examples, generated values, and proposed inputs."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any

from nad_sandbox.behaviour.call_arguments import arguments_for, generate_calls
from nad_sandbox.behaviour.file_driver import file_driver_source
from nad_sandbox.behaviour.input_set import InputProposer, Inputs
from nad_sandbox.behaviour.json_schema import json_schema, json_value
from nad_sandbox.behaviour.parameter_types import OwnTypes, ValueType, parameter_types
from nad_sandbox.behaviour.script_source import generate_standard_input
from nad_sandbox.behaviour.target_function import TargetFunction
from nad_sandbox.checks.examples import find_examples
from nad_sandbox.checks.guarded_parse import LONGEST_PROGRAM, PARSE_ERRORS, parse_expression, unparse

__all__ = ["call_inputs", "function_inputs", "script_inputs"]

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
    own: OwnTypes | None = None,
) -> Inputs:
    """Return calls of a function: the prompt's examples, then generated and proposed calls in turn, without duplicates.

    Examples make up at most half of the calls, unless there are too few others.

    Args:
        prompt: The prompt that the model answered.
        target: The function to call.
        count: Largest number of calls to return.
        propose: Function that proposes further inputs; see `InputProposer`.
        proposed_only: Whether the proposed calls are the only ones.
        own: Values of the program's own types.

    Raises:
        ValueError: A proposed input is not plain data.
        SandboxUnavailableError: The package hypothesis, which generates values, is not installed.
    """
    return function_inputs(prompt, [target], count=count, propose=propose, proposed_only=proposed_only, own=own)


def function_inputs(
    prompt: str,
    targets: Sequence[TargetFunction],
    *,
    count: int,
    propose: InputProposer | None = None,
    proposed_only: bool = False,
    own: OwnTypes | None = None,
) -> Inputs:
    """Return calls of one or more functions, of which each gets an equal share; see `call_inputs`.

    A proposer that is asked about several functions names the one that it means and gives a list of its arguments.
    """
    given, typed = {}, {}
    for target in targets:
        calls = [_arguments(example.call, target) for example in find_examples(prompt)]
        given[target] = list(dict.fromkeys(call for call in calls if call))
        rows = [_grouped(target, row) for call in given[target] if (row := _plain_arguments(call)) is not None]
        values = [row for row in rows if len(row) == len(target.parameters)]
        value_types = parameter_types(target.parameters, values, own)
        typed[target] = {one.name: kind for one, kind in zip(target.parameters, value_types, strict=True)}
    proposed: dict[TargetFunction, list[str]] = {target: [] for target in targets}
    # a proposal is JSON, which has no functions
    asked = {target: kinds for target, kinds in typed.items() if not any(map(_has_functions, kinds.values()))}
    if propose and asked:
        for item in propose(prompt, _schemas(asked)):
            concerned, call = _proposed(item, asked)
            proposed[concerned].append(call)
    made = []
    for place, target in enumerate(targets):
        share = count // len(targets) + (place < count % len(targets))
        generated = [] if proposed_only else _generated(target, list(typed[target].values()), share, own)
        made.append(_mixed([] if proposed_only else given[target], generated, proposed[target], share))
    reads_files = any(
        kind.name == "path" or "Path('" in str(kind.options) for kinds in typed.values() for kind in kinds.values()
    )
    # the prompt's examples come first
    first = [text for one in made for text in one.texts[: one.examples]]
    rest = [text for one in made for text in one.texts[one.examples :]]
    return Inputs((*first, *rest), len(first), driver=file_driver_source() if reads_files else "")


def _generated(target: TargetFunction, value_types: list[ValueType], count: int, own: OwnTypes | None) -> list[str]:
    calls = generate_calls(target.parameters, count, optional=target.optional, own=own, value_types=value_types)
    return [f"{target.callee}({given.text})" for given in calls]


def _has_functions(value_type: ValueType) -> bool:
    return any(one.is_function for one in (value_type, *value_type.parts))


def _schemas(asked: Mapping[TargetFunction, Mapping[str, ValueType]]) -> dict[str, dict[str, Any]]:
    """Return the JSON schemas of a function's parameters, or of the choice between several functions."""
    if len(asked) == 1:
        [kinds] = asked.values()
        return {name: json_schema(kind) for name, kind in kinds.items()}
    schemas = [json_schema(kind) for kinds in asked.values() for kind in kinds.values()]
    different = [schema for place, schema in enumerate(schemas) if schema not in schemas[:place]]
    return {
        "function": {"enum": [target.callee for target in asked]},
        "arguments": {"type": "array", "items": {"anyOf": different}, "maxItems": max(map(len, asked.values()))},
    }


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


def _is_plain(call: str, options: Collection[str] = ()) -> bool:
    """Return whether all arguments of a call, those with a name too, are plain data; may raise `PARSE_ERRORS`.

    Args:
        call: Source of the call.
        options: Sources of arguments that are no plain data and may be given.
    """
    tree = _parsed(call)
    for node in [] if tree is None else [*tree.args, *(keyword.value for keyword in tree.keywords)]:
        if unparse(node) not in options:
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
    return f"{target.callee}({arguments_for(target.parameters, arguments).text})"


def _proposed(item: object, asked: Mapping[TargetFunction, Mapping[str, ValueType]]) -> tuple[TargetFunction, str]:
    """Return the function that a proposed input concerns, and the input as the source of its call."""
    for target, value_types in _candidates(item, asked):
        given = item
        if isinstance(given, Mapping) and len(asked) > 1 and given.keys() == {"function", "arguments"}:
            given = given["arguments"]
            if isinstance(given, Sequence) and len(given) >= len(value_types):
                given = dict(zip(value_types, given, strict=False))
        if isinstance(given, Mapping) and given.keys() == value_types.keys():
            # arguments go by position, since candidates may name their parameters as they like
            given = [json_value(value_type, given[name]) for name, value_type in value_types.items()]
        call = _proposed_call(given, target, value_types)
        if call is not None:
            return target, call
    names = " or ".join(f"{target.callee}(...)" for target in asked)
    raise ValueError(
        f"the proposed input {item!r} cannot be used: give a list of plain arguments, a mapping of names to plain "
        f"arguments, or the source of a call such as {names}"
    )


def _candidates(
    item: object, asked: Mapping[TargetFunction, Mapping[str, ValueType]]
) -> list[tuple[TargetFunction, Mapping[str, ValueType]]]:
    """Return the functions that a proposed input may concern, the likeliest first."""
    named = item.get("function") if isinstance(item, Mapping) else None

    def distance(pair: tuple[TargetFunction, Mapping[str, ValueType]]) -> tuple[bool, bool]:
        target, kinds = pair
        if isinstance(item, Mapping):
            return target.callee != named, item.keys() != kinds.keys()
        return False, isinstance(item, Sequence) and len(item) != len(kinds)

    return sorted(asked.items(), key=distance)


def _proposed_call(item: object, target: TargetFunction, value_types: Mapping[str, ValueType]) -> str | None:
    """Return a proposed input as the source of a call of a function; None if it is none."""
    try:
        if isinstance(item, str):
            return _arguments(item, target)
        if isinstance(item, Mapping):
            text = f"{target.callee}({', '.join(f'{name}={value!r}' for name, value in item.items())})"
        elif isinstance(item, Sequence):
            text = _call(target, item)
        else:
            return None
        options = {text for value_type in value_types.values() for text in value_type.options}
        return text if _is_plain(text, options) else None
    except PARSE_ERRORS:
        return None
