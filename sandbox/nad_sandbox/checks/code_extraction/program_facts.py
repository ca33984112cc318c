"""Analyze the syntax tree of a program: what it defines and imports, which names it lacks, and whether it works."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from nad_sandbox.checks.guarded_parse import children, descendants, parse_program

__all__ = ["FUNCTIONS", "ProgramFacts", "bound_by_import", "facts", "is_idle", "is_stub", "unbound_names"]

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
_WORKING_STATEMENTS = (
    *_DEFINITIONS, ast.Import, ast.ImportFrom, ast.Assign, ast.AugAssign, ast.For, ast.AsyncFor, ast.While, ast.With,
    ast.AsyncWith, ast.Try, ast.TryStar, ast.If, ast.Match, ast.Assert, ast.Raise, ast.Delete,
)  # fmt: skip
_ACTIVE_EXPRESSIONS = (
    ast.Call, ast.Await, ast.Yield, ast.YieldFrom, ast.Lambda, ast.NamedExpr, ast.comprehension
)  # fmt: skip
_BUILTINS = frozenset(dir(builtins)) | {"__file__", "__path__", "__builtins__", "__annotations__"}


@dataclass(frozen=True)
class ProgramFacts:
    """Facts about source that parses and whose `return` statements are inside functions.

    Attributes:
        tree: The syntax tree. It is shared and must not be changed.
        definitions: Names of top-level functions and classes that have a body of their own.
        stubs: Names of those whose body is left out (``...``, ``pass``).
        unbound: Names that the program reads, that nothing in it binds and that are not built in.
        works: Whether the program does anything: it defines, imports, assigns, or calls what it or Python defines.
    """

    tree: ast.Module
    definitions: frozenset[str]
    stubs: frozenset[str]
    unbound: frozenset[str]
    works: bool


@lru_cache(maxsize=64)
def facts(code: str) -> ProgramFacts | None:
    """Return the facts about a program; None when it does not parse, or is only the body of a function."""
    tree = parse_program(code)
    if tree is None or _returns_outside_functions(tree):
        return None
    defined = [node for node in tree.body if isinstance(node, _DEFINITIONS)]
    stubs = frozenset(node.name for node in defined if is_stub(node))
    unbound = unbound_names(tree)
    works = any(isinstance(node, _WORKING_STATEMENTS) for node in tree.body) or any(
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await) and not unbound
        for node in tree.body
    )
    return ProgramFacts(tree, frozenset(node.name for node in defined) - stubs, stubs, unbound, works)


def is_idle(code: str) -> bool:
    """Return whether source has no code to check: it is blank, has only comments, or is words that happen to parse.

    "42", "Yes" and "not True" are such words; they would pass a check that only loads the program.
    """
    tree = parse_program(code)
    return not code.strip() or (tree is not None and all(_is_idle(statement) for statement in tree.body))


def _is_idle(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return not any(isinstance(node, _ACTIVE_EXPRESSIONS) for node in ast.walk(statement))
    return isinstance(statement, ast.Pass)


def is_stub(node: ast.stmt) -> bool:
    """Return whether a definition has no body of its own, only a docstring, ``...`` or ``pass``."""
    if not isinstance(node, _DEFINITIONS):
        return False
    rest = [s for s in node.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
    return all(isinstance(statement, ast.Pass) for statement in rest)


def bound_by_import(node: ast.Import | ast.ImportFrom) -> set[str]:
    """Return the names that an import statement binds; ``*`` stands for itself."""
    return {(alias.asname or alias.name).split(".")[0] for alias in node.names}


def unbound_names(tree: ast.AST) -> frozenset[str]:
    """Return the names that a tree reads, that nothing in it binds and that are not built in.

    The result is empty for a tree that imports all names of a module.
    """
    read: set[str] = set()
    bound: set[str] = set()
    for node in descendants(tree):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        else:
            bound.update(_bound_by(node))
    return frozenset() if "*" in bound else frozenset(read - bound - _BUILTINS)


def _bound_by(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node binds, other than by an assignment."""
    if isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from bound_by_import(node)
    elif isinstance(node, (*_DEFINITIONS, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)):
        yield node.name or ""
    elif isinstance(node, ast.MatchMapping):
        yield node.rest or ""
    elif isinstance(node, ast.Global | ast.Nonlocal):
        yield from node.names
    elif type(node).__name__ in ("TypeVar", "ParamSpec", "TypeVarTuple"):  # type parameters, from Python 3.12 on
        yield getattr(node, "name", "")


def _returns_outside_functions(tree: ast.Module) -> bool:
    """Return whether a tree is only a function's body, which parses but does not compile."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Return, ast.Yield, ast.YieldFrom)):
            return True
        if not isinstance(node, (*FUNCTIONS, ast.Lambda)):
            waiting += children(node)
    return False
