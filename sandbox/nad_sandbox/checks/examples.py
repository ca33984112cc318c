"""Examples that a prompt or docstring gives: calls with what they return."""

from __future__ import annotations

import ast
import builtins
import doctest
import re
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Example", "find_examples"]

_ARROW = re.compile(r"\s*(?:#\s*)?(?:={1,3}>|==|=|[-–]+>|➞|→|returns?\b|should return\b|should be\b)\s*")
_NAMED = (
    re.compile(r"^\s*Input\s*:\s*(?P<given>\S.*)\n\s*Output\s*:\s*(?P<expected>\S.*)$", re.MULTILINE),
    re.compile(r"\bFor (?P<given>\w+ = .+?),?\s+the (?:output|result) should be (?P<expected>.+)$", re.MULTILINE),
)
_LITERALS = {"true": "True", "false": "False", "null": "None", "none": "None"}
_FUNCTIONS = re.compile(r"^\s*(?:async )?def (\w+)\(", re.MULTILINE)
_SIGNATURE = re.compile(r"^(?:async )?def (?P<name>\w+)\((?P<parameters>[^)]*)\)", re.MULTILINE)
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
    ``assert f(1) == 2``, ``f(1) -> 2``, ``f(1) => 2``, ``f(1) = 2``, ``f(1) returns 2``; and, for the last function
    whose signature the prompt gives, ``Input: x = 1`` above ``Output: 2``, and ``For x = 1 the output should be 2``.
    Arguments must be plain data: a prompt is text, not a program to run.

    Args:
        prompt: what the model was asked.
    """
    known = set(_FUNCTIONS.findall(prompt))
    found: dict[str, Example] = {}
    doctests = _doctests(prompt)
    for call, expected in [*doctests, *_beside(prompt, known), *_by_name(prompt)]:
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
        beside = _beside(example.source, set())
        if beside:
            pairs += beside
            continue
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
    pairs: list[tuple[str, str]] = []
    equations: list[tuple[str, str]] = []
    headed = False  # above a heading such as "Examples:", f(1) = 2 may be part of a definition
    for line in prompt.splitlines():
        headed = headed or "example" in line.lower()
        if line.lstrip().startswith(("def ", "async def ", ">>>")):
            continue
        for match in re.finditer(r"\b([A-Za-z_]\w*)\(", line):
            if known and match[1] not in known:
                continue
            end = _closing(line, match.end() - 1)
            arrow = _ARROW.match(line, end) if end else None
            if not end or arrow is None or (arrow[0].strip() == "=" and not headed):
                continue
            value = _longest_literal(line[arrow.end() :])
            if value:
                (equations if arrow[0].strip() == "=" else pairs).append((line[match.start() : end], value))
    # equations of different kinds, f(4) = 3 and f(3) = [1, 2], are a definition in prose
    kinds = {type(ast.literal_eval(value)) for _, value in equations}
    return pairs + equations if len(kinds) == 1 else pairs


def _by_name(prompt: str) -> list[tuple[str, str]]:
    """Examples that give the arguments of the prompt's last function by name."""
    signatures = list(_SIGNATURE.finditer(prompt))
    if not signatures:
        return []
    try:
        function = ast.parse(f"def f({signatures[-1]['parameters']}): pass").body[0]
    except SyntaxError:
        return []
    assert isinstance(function, ast.FunctionDef)
    order = [argument.arg for argument in function.args.args]
    pairs = []
    for match in (match for pattern in _NAMED for match in pattern.finditer(prompt)):
        try:
            call = ast.parse(f"f({match['given']})", mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            continue
        value = _longest_literal(match["expected"])
        if not isinstance(call, ast.Call) or call.args or not value:
            continue
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if list(given) == order:
            pairs.append((f"{signatures[-1]['name']}({', '.join(given.values())})", value))
    return pairs


def _closing(line: str, opening: int) -> int:
    """Index behind the parenthesis that closes the one at `opening`; 0 when there is none."""
    for end in range(opening + 1, len(line) + 1):
        if line[end - 1] == ")" and _called("f" + line[opening:end]):
            return end
    return 0


def _longest_literal(text: str) -> str:
    text = text.strip().rstrip("`").strip()
    word = re.match(r"\w*", text)
    if word and word[0] in _LITERALS and _ends_a_value(text[word.end() :]):
        return _LITERALS[word[0]]
    for end in range(len(text), 0, -1):
        candidate, rest = text[:end].strip(), text[end:]
        if _literal(candidate) is not None and _ends_a_value(rest):
            # ("a") may be meant as a tuple of one
            bracketed = candidate.startswith("(") and not isinstance(ast.literal_eval(candidate), tuple)
            return "" if bracketed else candidate
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
