"""Add what a program takes for granted: code from its prompt, and imports that coding sites provide by default."""

from __future__ import annotations

import ast
import bisect
import collections
import functools
import heapq
import itertools
import math
import re
import typing
from types import ModuleType

from nad_sandbox.checks.code_extraction.markdown_blocks import fenced_blocks
from nad_sandbox.checks.code_extraction.program_facts import (
    FUNCTIONS,
    ProgramFacts,
    bound_by_import,
    facts,
    is_stub,
    unbound_names,
)
from nad_sandbox.checks.guarded_parse import children, descendants, parse_program, unparse

__all__ = ["with_missing_names"]

# where two modules share a name the first one wins: a Counter is meant to be called
_MODULES: tuple[ModuleType, ...] = (collections, typing, math, itertools, functools, heapq, bisect, re)
_PUBLIC = {
    module.__name__: frozenset(getattr(module, "__all__", None) or [name for name in vars(module) if name[0] != "_"])
    for module in _MODULES
    if module is not re  # its names are words such as match and search
}
_IMPORT = re.compile(r"^(?:import|from)[ \t][^\n]+$", re.MULTILINE)
_Import = ast.Import | ast.ImportFrom


def with_missing_names(code: str, prompt: str) -> str:
    """Return a program with the definitions and imports that it lacks in front of it.

    Imports and complete definitions from the prompt's code come first: a model that continues a file takes them for
    granted. Names of typing, collections, math, itertools, functools, heapq, bisect and re that nothing binds are
    imported. If names remain that only annotations read, such as the class of a node that the tests define, annotations
    are not evaluated. A program that lacks nothing is returned unchanged.

    Args:
        code: The program's source; source that does not parse is returned unchanged.
        prompt: The prompt that the model answered.
    """
    known = facts(code)
    if known is None:
        return code
    from_prompt, missing = _wanted_of_prompt(known, prompt)
    lines = [text for node in from_prompt if (text := unparse(node)) is not None]
    future = [line for line in lines if line.startswith("from __future__ ")]
    lines = [line for line in lines if line not in future]
    if missing:
        usual = _usual_imports(missing, _called(known.tree))
        lines = [*usual.values(), *lines]
        missing -= usual.keys()
    if missing and not missing & _read_at_run_time(known.tree) and not _has_future(known.tree):
        future.append("from __future__ import annotations")
    return _put_before(code, known.tree, future, lines)


def _put_before(code: str, tree: ast.Module, future: list[str], lines: list[str]) -> str:
    """Insert lines into a program after its docstring and its `__future__` imports, which must come first."""
    if not future and not lines:
        return code
    at = 0
    for place, node in enumerate(tree.body):
        documentation = place == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        if not (documentation or is_future):
            break
        at = node.end_lineno or node.lineno
    own = code.split("\n")
    # no statement may come between the docstring and these imports, and both are short
    return "\n".join([*own[:at], *dict.fromkeys(future), *dict.fromkeys(lines), *own[at:]])


def _has_future(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" and "annotations" in bound_by_import(node)
        for node in tree.body
    )


def _wanted_of_prompt(known: ProgramFacts, prompt: str) -> tuple[list[ast.stmt], set[str]]:
    """Return the prompt's statements that a program needs, in order, and the names that it still lacks with them."""
    missing = set(known.unbound)
    wanted: list[ast.stmt] = []
    fenced = bool(fenced_blocks(prompt))
    for node in reversed(_prompt_code(prompt)):
        if isinstance(node, _Import):
            names = bound_by_import(node)
            needed = bool(names & missing) or "*" in names
            needed |= isinstance(node, ast.ImportFrom) and node.module == "__future__" and not _has_future(known.tree)
        else:
            names = {node.name} if isinstance(node, (*FUNCTIONS, ast.ClassDef)) else set()
            # a prompt that is code is the file that the model continues, and its tests may use anything in it
            needed = not names & (known.definitions | known.stubs) and (not fenced or bool(names & missing))
        if needed:
            wanted.insert(0, node)
            missing |= unbound_names(node)
            missing -= {"*"} if "*" not in names else missing
        missing -= names if needed else set()
    return wanted, missing


def _prompt_code(prompt: str) -> list[ast.stmt]:
    """Return the imports and complete definitions of a prompt, which may have prose around them."""
    body: list[ast.stmt] = []
    for source in [block.code for block in fenced_blocks(prompt)] or [prompt]:
        tree = parse_program(source) or parse_program("\n".join(_IMPORT.findall(source)))
        body += tree.body if tree is not None else []
    return [
        node
        for node in body
        if isinstance(node, _Import) or (isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not is_stub(node))
    ]


def _usual_imports(missing: set[str], called: set[str]) -> dict[str, str]:
    """Return an import statement for each missing name that one of the usual modules defines."""
    found: dict[str, str] = {}
    for name in sorted(missing):
        home = next((module for module, public in _PUBLIC.items() if name in public), None)
        is_module = any(module.__name__ == name for module in _MODULES)
        if is_module and not (home and name in called):  # `bisect` names a module and a function in it
            found[name] = f"import {name}"
        elif home is not None and len(name) > 1:
            found[name] = f"from {home} import {name}"
    return found


def _called(tree: ast.AST) -> set[str]:
    """Return the names that are called as functions."""
    return {
        node.func.id for node in descendants(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }


def _read_at_run_time(tree: ast.AST) -> set[str]:
    """Return the names that are read outside of annotations."""
    names: set[str] = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name):
            names.add(node.id)
        annotations = (id(getattr(node, "annotation", None)), id(getattr(node, "returns", None)))
        waiting += [child for child in children(node) if id(child) not in annotations]
    return names
