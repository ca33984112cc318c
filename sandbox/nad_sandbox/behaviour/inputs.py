"""Inputs to observe programs on: from the prompt's examples, made from types and names, and proposed by the caller."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

from nad_sandbox.behaviour.json_schema import json_schema, json_value
from nad_sandbox.behaviour.parameter_types import Kind, parameter_kinds
from nad_sandbox.behaviour.target_function import Target
from nad_sandbox.behaviour.value_generation import generate_arguments
from nad_sandbox.checks.examples import find_examples

__all__ = ["InputProposer", "Inputs", "call_inputs", "script_inputs"]

InputProposer = Callable[[str, Mapping[str, Mapping[str, Any]] | None], Iterable[object]]
"""Maps a prompt, and the JSON schema of each parameter of the function that is called by its name (None for a script),
to inputs: lists of positional arguments, mappings of keyword arguments, or text (a call as source, or what a script
reads). In a mapping that has all parameters, JSON arrays stand for tuples and sets too."""

_SAMPLE = re.compile(
    r"^[#*\s]*(?:sample |example )?input[ \d#:*]*\n(?P<given>.*?)\n\s*[#*]*\s*(?:sample |example )?output",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Inputs:
    """What the programs are run on.

    Attributes:
        texts: source of calls, or contents of standard input.
        examples: how many of them, at the beginning, are the prompt's own examples.
    """

    texts: tuple[str, ...]
    examples: int


def call_inputs(prompt: str, target: Target, *, count: int, propose: InputProposer | None = None) -> Inputs:
    """Calls of a function: the prompt's examples, then generated and proposed ones in turn, without repetition.

    Examples take half of the places at most, unless nothing else fills the rest.

    Args:
        prompt: what the model was asked.
        target: the function.
        count: how many at most.
        propose: further inputs; see `InputProposer`.

    Raises:
        ValueError: a proposed input is not plain data.
        SandboxUnavailableError: hypothesis, which generates values, is not installed.
    """
    calls = [_arguments(example.call, target) for example in find_examples(prompt)]
    given = list(dict.fromkeys(call for call in calls if call))
    values = [[ast.literal_eval(node) for node in _parsed(call).args] for call in given if _is_literal(call)]
    values = [row for row in values if len(row) == len(target.parameters)]
    kinds = parameter_kinds(target.parameters, values)
    generated = [_call(target, row) for row in generate_arguments(kinds, count)]
    named = {parameter.name: kind for parameter, kind in zip(target.parameters, kinds, strict=True)}
    schemas = {name: json_schema(kind) for name, kind in named.items()}
    proposed = [_proposed(item, target, named) for item in (propose(prompt, schemas) if propose else ())]
    return _mixed(given, generated, proposed, count)


def script_inputs(prompt: str, *, count: int, propose: InputProposer | None = None) -> Inputs:
    """Contents of standard input: the prompt's samples, then what is proposed; an empty one where there are none.

    Args:
        prompt: what the model was asked.
        count: how many at most.
        propose: further inputs, as text.

    Raises:
        ValueError: a proposed input is not text.
    """
    samples = [match["given"].replace("```", "").strip("\n") + "\n" for match in _SAMPLE.finditer(prompt)]
    proposed = []
    for item in propose(prompt, None) if propose else ():
        if not isinstance(item, str):
            raise ValueError(f"the proposed input {item!r} is not text, which is what a script reads")  # noqa: TRY004 - a value
        proposed.append(item)
    return _mixed(list(dict.fromkeys(samples)), [], proposed, count) if samples or proposed else Inputs(("",), 0)


def _mixed(given: list[str], generated: list[str], proposed: list[str], count: int) -> Inputs:
    rest = [text for text in chain.from_iterable(zip_longest(generated, proposed)) if text is not None]
    rest = [text for text in dict.fromkeys(rest) if text not in given]
    first = given[: max(count // 2, count - len(rest), 1)]
    return Inputs(tuple([*first, *rest][:count]), min(len(first), count))


def _parsed(call: str) -> ast.Call:
    tree = ast.parse(call, mode="eval").body
    assert isinstance(tree, ast.Call)
    return tree


def _is_literal(call: str) -> bool:
    tree = _parsed(call)
    if tree.keywords:
        return False
    try:
        for node in tree.args:
            ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _arguments(call: str, target: Target) -> str | None:
    """A call of the target in an example, alone or within other calls, where its arguments are plain data."""
    for node in ast.walk(ast.parse(call, mode="eval")):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            text = ast.unparse(node)
            if node.func.id == target.callee.rpartition(".")[2] and _is_literal(text):
                return target.callee + text[text.index("(") :]
    return None


def _call(target: Target, arguments: Sequence[object]) -> str:
    return f"{target.callee}({', '.join(map(repr, arguments))})"


def _proposed(item: object, target: Target, kinds: Mapping[str, Kind]) -> str:
    """A proposed input as the source of a call."""
    if isinstance(item, Mapping) and item.keys() == kinds.keys():
        # by position: candidates may name their parameters as they like
        item = [json_value(kind, item[name]) for name, kind in kinds.items()]
    try:
        if isinstance(item, str):
            call = _arguments(item, target)
            if call is not None:
                return call
        elif isinstance(item, Mapping):
            text = f"{target.callee}({', '.join(f'{name}={value!r}' for name, value in item.items())})"
            for keyword in _parsed(text).keywords:
                ast.literal_eval(keyword.value)
            return text
        elif isinstance(item, Sequence):
            text = _call(target, item)
            if _is_literal(text):
                return text
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        pass
    raise ValueError(
        f"the proposed input {item!r} cannot be used: give a list of plain arguments, a mapping of names to plain "
        f"arguments, or the source of a call such as {target.callee}(...)"
    )
