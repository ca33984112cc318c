"""Examples that a prompt or docstring gives: calls with what they return."""

from __future__ import annotations

import ast
import builtins
import doctest
import re
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Example", "find_examples"]

_ARROW = re.compile(r"\s*(?:==|=>|->|➞|→|returns?\b|should return\b)\s*")
_FUNCTIONS = re.compile(r"^\s*(?:async )?def (\w+)\(", re.MULTILINE)
_NODES = (
    ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.UnaryOp,
    ast.USub, ast.UAdd, ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Pow, ast.keyword,
)  # fmt: skip


@dataclass(frozen=True)
class Example:
    """A call and what it gives.

    Attributes:
        call: source of an expression made of one call with plain arguments.
        expected: source of a literal, or what is printed.
        names: functions that the call needs.
    """

    call: str
    expected: str
    names: tuple[str, ...]


def find_examples(prompt: str) -> tuple[Example, ...]:
    """The examples in a prompt, in order, without repetition.

    Found are doctests (``>>> f(1)`` and the line below) and calls beside their value: ``f(1) == 2``,
    ``assert f(1) == 2``, ``f(1) -> 2``, ``f(1) => 2``, ``f(1) returns 2``. Arguments must be plain data: a prompt is
    text, not a program to run.

    Args:
        prompt: what the model was asked.
    """
    known = set(_FUNCTIONS.findall(prompt))
    found: dict[str, Example] = {}
    doctests = _doctests(prompt)
    for call, expected in [*doctests, *_beside(prompt, known)]:
        names = _called(call)
        if names and call not in found and expected:
            found[call] = Example(call, expected, names)
    return tuple(found.values())


def _doctests(prompt: str) -> list[tuple[str, str]]:
    pairs = []
    try:
        parsed = doctest.DocTestParser().get_examples(prompt)
    except ValueError:  # inconsistent indentation: the line-wise reading below still finds pairs
        lines = [line.strip() for line in prompt.splitlines()]
        parsed = [
            doctest.Example(line[4:], below + "\n")
            for line, below in pairwise(lines)
            if line.startswith(">>> ") and below and not below.startswith(">>>")
        ]
    for example in parsed:
        want = example.want.strip()
        pairs.append((example.source.strip(), _first_value(want)))
    return pairs


def _first_value(want: str) -> str:
    """The value that a doctest's output begins with; further lines are prose, unless the value itself goes on."""
    lines = want.splitlines()
    for count in range(1, len(lines) + 1):
        value = "\n".join(lines[:count]).strip()
        if _literal(value) is not None:
            return value
    first = lines[0].strip() if lines else ""
    return "" if first[:1] in ("[", "(", "{", "'", '"') else first


def _beside(prompt: str, known: set[str]) -> list[tuple[str, str]]:
    pairs = []
    for line in prompt.splitlines():
        if line.lstrip().startswith(("def ", "async def ", ">>>")):
            continue
        for match in re.finditer(r"\b([A-Za-z_]\w*)\(", line):
            if known and match[1] not in known:
                continue
            end = _closing(line, match.end() - 1)
            arrow = _ARROW.match(line, end) if end else None
            if not end or arrow is None:
                continue
            value = _longest_literal(line[arrow.end() :])
            if value:
                pairs.append((line[match.start() : end], value))
    return pairs


def _closing(line: str, opening: int) -> int:
    """Index behind the parenthesis that closes the one at `opening`; 0 when there is none."""
    for end in range(opening + 1, len(line) + 1):
        if line[end - 1] == ")" and _called("f" + line[opening:end]):
            return end
    return 0


def _longest_literal(text: str) -> str:
    text = text.strip().rstrip("`").strip()
    for end in range(len(text), 0, -1):
        candidate, rest = text[:end].strip(), text[end:]
        if _literal(candidate) is not None and _ends_a_value(rest):
            return candidate
    return ""


def _ends_a_value(rest: str) -> bool:
    """Whether what follows a literal leaves it a value of its own, and not the beginning of a formula."""
    return not rest or (rest[0] in " \t.,;:)#`" and rest.strip()[:1] not in tuple("+-*/%=<>&|^("))


def _literal(text: str) -> str | None:
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return text


def _called(source: str) -> tuple[str, ...]:
    """Functions, other than built-in ones, that an expression of plain calls needs; empty when it is anything else."""
    try:
        tree = ast.parse(source, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return ()
    if not isinstance(tree.body, ast.Call) or not all(isinstance(node, _NODES) for node in ast.walk(tree)):
        return ()
    functions = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = [function.id for function in functions if isinstance(function, ast.Name)]
    loaded = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    if len(names) != len(functions) or sorted(names) != sorted(loaded):
        return ()
    return tuple(name for name in dict.fromkeys(names) if not hasattr(builtins, name))
