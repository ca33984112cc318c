"""Detect scripts that read standard input while they are loaded, and so cannot be loaded without input."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from nad_sandbox.checks.guarded_parse import children, descendants, parse_program

__all__ = ["reads_standard_input_when_loaded"]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def reads_standard_input_when_loaded(program: str) -> bool:
    """Return whether importing a program reads standard input, directly or through functions that it defines.

    Code under ``if __name__ == "__main__":`` does not count, since an import does not run it.

    Args:
        program: Python source; the result is False for source that does not parse.
    """
    tree = parse_program(program)
    if tree is None:
        return False
    bodies: dict[str, list[ast.AST]] = {}
    for node in descendants(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            bodies.setdefault(node.name, []).extend(_run_by(node.body))
        elif isinstance(node, ast.ClassDef):
            methods = [inner for inner in node.body if isinstance(inner, ast.FunctionDef) and inner.name == "__init__"]
            bodies.setdefault(node.name, []).extend(part for method in methods for part in _run_by(method.body))
    waiting = [part for statement in tree.body if not _is_main_guard(statement) for part in _run_by([statement])]
    called: set[str] = set()
    while waiting:
        node = waiting.pop()
        if _reads(node):
            return True
        name = _called_name(node)
        if name in bodies and name not in called:
            called.add(name)
            waiting.extend(bodies[name])
    return False


def _run_by(statements: list[ast.stmt]) -> Iterator[ast.AST]:
    """Yield every node that running the statements evaluates; bodies of functions are left out."""
    waiting: list[ast.AST] = [*statements]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, _FUNCTIONS):
            if not isinstance(node, ast.Lambda):
                waiting.extend(node.decorator_list)
            waiting.extend(node.args.defaults)
        else:
            waiting += children(node)


def _is_main_guard(node: ast.stmt) -> bool:
    if not isinstance(node, ast.If) or not isinstance(node.test, ast.Compare):
        return False
    sides = [node.test.left, *node.test.comparators]
    return any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides)


def _called_name(node: ast.AST) -> str:
    """Return the name of the function or method that a call calls; empty for other nodes."""
    function = node.func if isinstance(node, ast.Call) else None
    if isinstance(function, ast.Name):
        return function.id
    return function.attr if isinstance(function, ast.Attribute) else ""


def _reads(node: ast.AST) -> bool:
    """Return whether a node names standard input: ``input``, ``sys.stdin``, ``open(0)``, ``fileinput``."""
    if isinstance(node, ast.Attribute):
        return node.attr == "stdin" and isinstance(node.value, ast.Name) and node.value.id == "sys"
    if isinstance(node, ast.Name):
        return node.id in ("input", "stdin", "fileinput") and isinstance(node.ctx, ast.Load)
    if isinstance(node, ast.Call) and _called_name(node) in ("open", "read", "fdopen") and node.args:
        first = node.args[0]
        return isinstance(first, ast.Constant) and first.value in (0, "/dev/stdin") and first.value is not False
    return False
