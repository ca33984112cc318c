"""Tell which functions are decorators: they return a function that calls the one they are given."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from nad_sandbox.behaviour.parameter_types import is_function
from nad_sandbox.behaviour.signature import Signature, all_parameters

__all__ = ["class_decorator_parameters", "decorator_parameters"]


def decorator_parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Signature | None:
    """Return what a decorator takes besides the function: nothing, or the parameters of the function that makes it.

    Returns:
        None if the function is no decorator. A function that only might be one is none: a decorator copies the name of
        the decorated function, or its inner function takes any arguments, or it keeps something between calls.
    """
    if _decorates(node):
        return ()
    inner = [item for item in node.body if isinstance(item, ast.FunctionDef)]
    if any(_decorates(item) and _returns(node, item.name) for item in inner):
        return all_parameters(node)
    return None


def class_decorator_parameters(
    methods: Mapping[str, ast.FunctionDef | ast.AsyncFunctionDef],
) -> Signature | None:
    """Return the same for a class whose objects are decorated functions, or decorators; None for any other class.

    Args:
        methods: The functions in the class.
    """
    called, made = methods.get("__call__"), methods.get("__init__")
    if called is None or made is None:
        return None
    constructor = all_parameters(made)[1:]
    required = [parameter for parameter in constructor if not parameter.optional]
    if called.args.vararg is not None and len(required) == 1 and is_function(required[0]):
        return ()
    return constructor if _decorates(called, skip=1) else None


def _decorates(node: ast.FunctionDef | ast.AsyncFunctionDef, skip: int = 0) -> bool:
    """Return whether a function takes one function, and returns an inner one that calls it with any arguments."""
    if not isinstance(node, ast.FunctionDef):
        return False
    required = [parameter.name for parameter in all_parameters(node) if not parameter.optional][skip:]
    if len(required) != 1:
        return False
    for inner in node.body:
        if not (isinstance(inner, ast.FunctionDef) and _returns(node, inner.name)):
            continue
        wraps = any(
            isinstance(part, ast.Name | ast.Attribute) and "wraps" in ast.unparse(part)
            for part in (named for decorator in inner.decorator_list for named in ast.walk(decorator))
        )
        calls = any(
            isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == required[0]
            for call in ast.walk(inner)
        )
        if calls and (wraps or inner.args.vararg is not None):
            return True
    return False


def _returns(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> bool:
    """Return whether one of a function's own statements returns a name."""
    return any(
        isinstance(item, ast.Return) and isinstance(item.value, ast.Name) and item.value.id == name
        for statement in node.body
        for item in ([statement] if not isinstance(statement, ast.FunctionDef) else [])
    )
