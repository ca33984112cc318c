"""Normalize programs: programs that differ only in form get the same text, so that each is checked once."""

from __future__ import annotations

import ast
import builtins
import contextlib

from nad_sandbox.checks.guarded_parse import PARSE_ERRORS, parse_program

__all__ = ["normalize_program"]

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef)
_DOCUMENTED = (*_SCOPES, ast.ClassDef, ast.Module)
# code with these can see names, so that renaming would change what the program does
_REFLECTION = {"locals", "globals", "vars", "dir", "eval", "exec", "inspect", "sys"}


def normalize_program(code: str) -> str:
    """Return equal text for programs that differ only in comments, formatting, docstrings and local names.

    Local variables of functions are numbered in the order in which they appear. Parameters, which callers may name, and
    nested functions keep their names. In a program that may read its own names (``locals()``, ``eval``) all names stay.

    Args:
        code: Python source. Source that cannot be parsed or is nested too deeply is returned without trailing spaces.
    """
    tree = parse_program(code)
    if tree is not None:
        with contextlib.suppress(*PARSE_ERRORS):  # a tree may be too deep to walk
            return _normalized(tree)
    return "\n".join(line.rstrip() for line in code.strip().splitlines())


def _normalized(tree: ast.Module) -> str:
    _drop_docstrings(tree)
    if not any(_reflects(node) for node in ast.walk(tree)):
        taken = _names_outside_functions(tree) | set(dir(builtins))
        for function in _outermost_functions(tree):
            _rename_locals(function, taken)
    return ast.unparse(tree)


def _drop_docstrings(tree: ast.AST) -> None:
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or ([] if isinstance(node, ast.Module) else [ast.Pass()])


def _reflects(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in _REFLECTION
    if isinstance(node, ast.ImportFrom):
        return any(alias.name == "*" for alias in node.names)
    return isinstance(node, ast.Attribute) and node.attr.startswith(("__code", "f_", "co_"))


def _outermost_functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    found: list[ast.FunctionDef | ast.AsyncFunctionDef] = []
    for node in ast.iter_child_nodes(tree):
        found += [node] if isinstance(node, _SCOPES) else _outermost_functions(node)
    return found


def _names_outside_functions(tree: ast.AST) -> set[str]:
    """Return every name that code outside of functions mentions, and every name declared global."""
    names: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
        if isinstance(node, _SCOPES):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Global):
                    names.update(inner.names)
        else:
            names |= _names_outside_functions(node)
    return names


def _rename_locals(function: ast.FunctionDef | ast.AsyncFunctionDef, taken: set[str]) -> None:
    """Number the names that are only ever local variables of this function or of a function inside it."""
    stored: list[str] = []
    kept = set(taken)
    for node in ast.walk(function):
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                stored.append(node.id)
        elif isinstance(node, ast.ClassDef):
            return  # variables of a class are attributes
        elif isinstance(node, ast.arg):
            kept.add(node.arg)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            kept.update(node.names)
        elif isinstance(node, ast.alias):
            kept.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.MatchMapping):
            kept.add(node.rest or "")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            kept.add(node.name or "")
    # a name that already looks like a number would collide with another name's number
    mentioned = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    local = [name for name in stored if name not in kept and not name.startswith("__")]
    if any(name.startswith("_local") for name in mentioned | kept):
        return
    numbers: dict[str, str] = {}
    for node in _in_source_order(function):
        if isinstance(node, ast.Name) and node.id in local:
            node.id = numbers.setdefault(node.id, f"_local{len(numbers)}")


def _in_source_order(node: ast.AST) -> list[ast.AST]:
    ordered = [node]
    for child in ast.iter_child_nodes(node):
        ordered += _in_source_order(child)
    return ordered
