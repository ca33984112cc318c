"""Prepare programs that read standard input: remove their prompts, and generate input that fits them."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence

from nad_sandbox.checks.guarded_parse import parse_program, unparse

__all__ = ["generate_standard_input", "without_prompts"]

_LINES: dict[str, tuple[str, ...]] = {
    "int": ("3", "5", "0", "12", "-4", "7", "1", "100"),
    "float": ("2.5", "10", "0", "-1.5", "100.25", "3"),
    "ints": ("3 1 2", "5 5", "10 -4 0 7", "1 2 3 4 5", "8 6", "0 0"),
    "words": ("the cat the hat", "a", "Hello World again", "b a c"),
    "text": ("hello", "racecar", "Hello, World!", "a b c", "12", "yes"),
}
"""Example lines by what a program converts a line to."""
_REPEATS = 6
"""Number of further lines of the last kind, for programs that read in a loop."""


def without_prompts(program: str) -> str:
    """Return a program whose calls of `input` print nothing, so that programs are compared by their answers.

    Args:
        program: The program's source; it is returned unchanged if it does not parse or has no prompts.
    """
    tree = parse_program(program)
    if tree is None:
        return program
    prompts = [node for node in ast.walk(tree) if _is_input(node) and isinstance(node, ast.Call) and node.args]
    if not prompts:
        return program
    for node in prompts:
        # the prompt is still evaluated, since its evaluation may fail
        made = ast.Tuple([*node.args, ast.Constant("")], ast.Load())
        node.args = [ast.Subscript(made, ast.Constant(len(made.elts) - 1), ast.Load())]
    return unparse(ast.fix_missing_locations(tree)) or program


def generate_standard_input(programs: Sequence[str], count: int) -> tuple[str, ...]:
    """Return contents of standard input that fit what most programs read; empty if no program reads anything.

    Args:
        programs: Source texts of the programs.
        count: Largest number of contents to return.
    """
    reads = Counter(kinds for program in programs if (kinds := _lines_read(program)))
    if not reads:
        return ()
    kinds = max(reads, key=lambda kinds: (reads[kinds], kinds))
    # a program that reads all of its input would take further lines for numbers
    reads_on = any(_reads_in_a_loop(program) for program in programs if _lines_read(program) == kinds)
    made = []
    for place in range(count):
        lines = [_LINES[kind][(place + 2 * i) % len(_LINES[kind])] for i, kind in enumerate(kinds)]
        if reads_on:
            lines += [_LINES[kinds[-1]][(place + i + 1) % len(_LINES[kinds[-1]])] for i in range(_REPEATS)]
        made.append("\n".join(lines) + "\n")
    return tuple(dict.fromkeys(made))


def _reads_in_a_loop(program: str) -> bool:
    """Return whether a program may read more lines than there are places where it reads one."""
    tree = parse_program(program)
    repeated = [part for node in ast.walk(tree) for part in _repeated(node)] if tree is not None else []
    return any(_reads_line(node) for part in repeated for node in ast.walk(part))


def _repeated(node: ast.AST) -> list[ast.AST]:
    """Return the parts of a loop that run several times, and a loop's iterable if it is standard input."""
    if isinstance(node, ast.While):
        return [node]
    if isinstance(node, ast.For | ast.AsyncFor):
        parts, iterable = list[ast.AST](node.body), node.iter
    elif isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
        first, *rest = node.generators
        results = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        parts, iterable = [*results, *first.ifs, *rest], first.iter
    else:
        return []
    return [*parts, iterable] if "sys.stdin" in (unparse(iterable) or "") else parts


def _is_input(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "input"


def _reads_line(node: ast.AST) -> bool:
    names = ("sys.stdin.readline", "sys.stdin.read", "sys.stdin")
    return _is_input(node) or (isinstance(node, ast.Attribute) and unparse(node) in names)


def _lines_read(program: str) -> tuple[str, ...]:
    """Return the kinds of lines that a program reads, in the order of its source."""
    tree = parse_program(program)
    if tree is None:
        return ()
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found = [
        (getattr(node, "lineno", 0), getattr(node, "col_offset", 0), _kind(node, parents))
        for node in ast.walk(tree)
        if _reads_line(node) and not (isinstance(node, ast.Attribute) and isinstance(parents.get(node), ast.Attribute))
    ]
    return tuple(kind for _, _, kind in sorted(found))


def _kind(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> str:
    """Return what a program converts a line to, judged by the calls around the place where it reads the line."""
    split = False
    statement: ast.AST = node
    while not isinstance(statement, ast.stmt) and statement in parents:
        statement = parents[statement]
        if isinstance(statement, ast.Attribute) and statement.attr == "split":
            split = True
        called = statement.func if isinstance(statement, ast.Call) else None
        if isinstance(called, ast.Name) and called.id in ("int", "float") and not split:
            return called.id
    numbers = any(isinstance(inner, ast.Name) and inner.id in ("int", "float") for inner in ast.walk(statement))
    if split:
        return "ints" if numbers else "words"
    return "text"
