"""Parse Python source that a model wrote: the result is a tree or None, never an exception, whatever the text is.

All parsing with `ast` in this package, including that of the user's tests, goes through this module, since parsers in
two threads disturb one another.
"""

from __future__ import annotations

import ast
import contextlib
import re
import threading
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Literal

__all__ = [
    "LONGEST_PROGRAM",
    "PARSE_ERRORS",
    "bounded_parsing",
    "children",
    "descendants",
    "error_line",
    "parse_expression",
    "parse_program",
    "parse_tests",
    "unparse",
]

LONGEST_PROGRAM = 1 << 18
"""Largest number of characters that is extracted or parsed: longer text would keep this process busy without limit."""

PARSE_ERRORS = (SyntaxError, ValueError, TypeError, RecursionError, MemoryError, SystemError, OverflowError)
"""Exceptions that `ast` raises for source that is wrong, too deep, or more than it can represent."""

_LONGEST_EXPRESSION = 2000
_DEEPEST_EXPRESSION = 40
_TRIES = 3
_FILE_NAME = "<candidate>"
_BRACKET = re.compile(r"[()\[\]{}]")
# the parser warns only about unknown escapes and about numbers with a word behind them
_WARNED_OF = re.compile(r"\\|\d[A-Za-z]")

# CPython 3.11 counts a tree's depth in a variable shared by all threads: threads that parse at once fail at random
_lock = threading.Lock()


class _Parsed:
    """The trees parsed within one `bounded_parsing` block, and the number of characters that may still be parsed."""

    def __init__(self, characters: int) -> None:
        self.left = characters
        self.trees: dict[str, ast.Module | None] = {}


_parsed: ContextVar[_Parsed | None] = ContextVar("_parsed", default=None)


@contextlib.contextmanager
def bounded_parsing(characters: int) -> Iterator[None]:
    """Limit how much `parse_program` parses within the block; beyond the limit it returns None.

    Each text is parsed once, and its tree is shared, so callers must not change it.

    Args:
        characters: Largest number of characters to parse in all programs together.
    """
    token = _parsed.set(_Parsed(characters))
    try:
        yield
    finally:
        _parsed.reset(token)


def parse_program(source: str) -> ast.Module | None:
    """Parse a program.

    Args:
        source: Python source, or any other text.

    Returns:
        The syntax tree; None for text that is not valid in this version of Python, is longer than `LONGEST_PROGRAM`,
        or is nested too deeply.
    """
    if len(source) > LONGEST_PROGRAM:
        return None
    parsed = _parsed.get()
    if parsed is not None:
        if source in parsed.trees:
            return parsed.trees[source]
        parsed.left -= len(source)
        if parsed.left < 0:
            return None
    found = _guarded(source, "exec")
    tree = found if isinstance(found, ast.Module) else None
    if parsed is not None:
        parsed.trees[source] = tree
    return tree


def descendants(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and all nodes below it, in no particular order, except expression contexts such as `ast.Load`.

    It takes a third of the time of `ast.walk`.
    """
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += children(node)


def children(node: ast.AST) -> list[ast.AST]:
    """Return the nodes directly below a node, except an expression context such as `ast.Load`."""
    found: list[ast.AST] = []
    for value in vars(node).values():
        if type(value) is list:
            found += [item for item in value if isinstance(item, ast.AST)]
        elif isinstance(value, ast.AST) and not isinstance(value, ast.expr_context):
            found.append(value)
    return found


def parse_expression(source: str, *, longest: int = _LONGEST_EXPRESSION) -> ast.Expression | None:
    """Parse one expression.

    Args:
        source: Python source, or any other text.
        longest: Largest number of characters that is parsed.

    Returns:
        The syntax tree; None for text that is no expression, is too long, or has more than 40 open brackets.
    """
    if len(source) > longest or _bracket_depth(source) > _DEEPEST_EXPRESSION:
        return None
    tree = _guarded(source, "eval")
    return tree if isinstance(tree, ast.Expression) else None


def parse_tests(source: str) -> ast.Module:
    """Parse tests that a user wrote; unlike a model's programs, they raise their syntax errors.

    Args:
        source: Python source, or any other text.

    Raises:
        SyntaxError: The text is not valid in this version of Python; other exceptions of `PARSE_ERRORS` mean the same.
    """
    tree = _tried(source, "exec")
    assert isinstance(tree, ast.Module)
    return tree


def error_line(source: str) -> int | None:
    """Return the line, counted from 1, at which source stops being valid Python; None if all of it is valid.

    The result is 1 if the limit of `bounded_parsing` is reached.
    """
    parsed = _parsed.get()
    if parsed is not None:
        parsed.left -= len(source)
        if parsed.left < 0:
            return 1
    try:
        _tried(source, "exec")
    except SyntaxError as error:
        return error.lineno or 1
    except PARSE_ERRORS:
        return 1
    return None


def unparse(tree: ast.AST) -> str | None:
    """Return a tree as source text; None when it is nested too deeply for that."""
    try:
        return ast.unparse(tree)
    except PARSE_ERRORS:
        return None


def _guarded(source: str, mode: Literal["exec", "eval"]) -> ast.AST | None:
    try:
        return _tried(source, mode)
    except PARSE_ERRORS:
        return None


def _tried(source: str, mode: Literal["exec", "eval"]) -> ast.AST:
    for _ in range(_TRIES - 1):
        try:
            return _parse(source, mode)
        except SystemError:  # a thread outside this module was parsing at the same time
            continue
    return _parse(source, mode)


def _parse(source: str, mode: Literal["exec", "eval"]) -> ast.AST:
    """Parse while no other thread of this module does, and suppress only the warnings about this source."""
    with _lock:
        if _WARNED_OF.search(source) is None:
            return ast.parse(source, _FILE_NAME, mode)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=re.escape(_FILE_NAME))
            return ast.parse(source, _FILE_NAME, mode)


def _bracket_depth(source: str) -> int:
    deepest = depth = 0
    for bracket in _BRACKET.findall(source):
        depth += 1 if bracket in "([{" else -1
        deepest = max(deepest, depth)
    return deepest
