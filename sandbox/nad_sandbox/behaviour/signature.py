"""Read a function's parameters, with type hints for those whose use in the function's body says what they are."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from nad_sandbox.checks.guarded_parse import unparse

__all__ = [
    "Parameter",
    "Signature",
    "all_parameters",
    "required_parameters",
    "says_more",
    "usual_hints",
    "usual_signature",
]

_CALLABLES = ("Callable", "typing.Callable", "collections.abc.Callable", "callable", "function")
"""Type hints of functions that do not say which arguments they take."""
_VAGUE = (None, "dict", "Dict", "list", "List", "Any", "dict[str, Any]", "Dict[str, Any]", "list[Any]", "List[Any]")
"""Type hints that do not say what a container holds."""
_CALLERS = ("map", "filter", "reduce", "starmap", "takewhile", "dropwhile")
_READING = {"read", "readline", "readlines"}
_NESTED = {
    "dict": "dict[str, int | dict[str, int | dict[str, int]]]",
    "list": "list[int | list[int | list[int]]]",
    "tuple": "list[int | tuple[int, int]]",
}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function.

    Attributes:
        name: Name of the parameter.
        annotation: Source of its type hint; None without one.
        keyword_only: Whether its argument is given by name.
        variadic: Whether it takes any number of arguments, as ``*args`` does, or ``**kwargs`` if `keyword_only`; the
            type hint is that of one argument.
        optional: Whether it has a default value.
    """

    name: str
    annotation: str | None = None
    keyword_only: bool = False
    variadic: bool = False
    optional: bool = False


Signature = tuple[Parameter, ...]


def required_parameters(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> Signature:
    """Return the parameters without a default, in order, and ``*args`` and ``**kwargs``; a method's include the object.

    A parameter that the function calls gets a type hint which says with how many arguments, and one that it reads or
    searches recursively a type hint that says so. After parameters with a default, ``*args`` is left out, since its
    arguments would be theirs.
    """
    return tuple(parameter for parameter in all_parameters(node) if not parameter.optional)


def all_parameters(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> Signature:
    """Return the parameters as `required_parameters` does, and after them those with a default value."""
    positional = [*node.args.posonlyargs, *node.args.args]
    split = len(positional) - len(node.args.defaults)
    by_name = list(zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True))
    many = [node.args.vararg] if node.args.vararg and not node.args.defaults else []
    hints = _hints_of_body(node)
    found = [Parameter(a.arg, _annotation(a, hints)) for a in positional[:split]]
    found += [Parameter(a.arg, _annotation(a, hints), variadic=True) for a in many]
    found += [Parameter(a.arg, _annotation(a, hints), keyword_only=True) for a, default in by_name if default is None]
    if node.args.kwarg:
        found.append(Parameter(node.args.kwarg.arg, _annotation(node.args.kwarg, hints), True, variadic=True))
    defaults = [*zip(positional[split:], node.args.defaults, strict=True), *by_name]
    found += [
        Parameter(a.arg, _annotation(a, hints) or _type_of_default(default), keyword_only=True, optional=True)
        for a, default in defaults
        if default is not None
    ]
    return tuple(found)


def usual_signature(signatures: Sequence[Signature]) -> Signature:
    """Return the most frequent of several signatures, with what the others say about the same parameters.

    The signatures with the most frequent number of required parameters count. A parameter without a type hint gets the
    most frequent one of the same name, and its argument is given by name if another program asks for that.
    """
    required = [tuple(parameter for parameter in one if not parameter.optional) for one in signatures]
    lengths = Counter(map(len, required))
    length = max(lengths, key=lambda n: (lengths[n], -n))
    counts = Counter(one for one in required if len(one) == length)
    chosen = max(counts, key=lambda one: (counts[one], str(one)))
    return usual_hints(chosen, signatures)


def usual_hints(parameters: Signature, signatures: Sequence[Signature]) -> Signature:
    """Return parameters with what several signatures say about those of the same names.

    A parameter without a type hint, or with one that says little, gets the most frequent one, and its argument is given
    by name if any signature asks for that. Signatures with other names do not count.
    """
    names = sorted(parameter.name for parameter in parameters)
    required = [[one for one in signature if not one.optional] for signature in signatures]
    told = Counter(one for seen in required if sorted(one.name for one in seen) == names for one in seen)
    return tuple(_completed(parameter, told) for parameter in parameters)


def says_more(annotation: str | None, other: str | None) -> bool:
    """Return whether a type hint says more about a function or a container than another one does."""
    return annotation is not None and annotation not in _VAGUE and other in (*_VAGUE, *_CALLABLES)


def _completed(parameter: Parameter, told: Counter[Parameter]) -> Parameter:
    """Return a parameter with what other signatures say about it."""
    same = [one for one in told if one.name == parameter.name and one.variadic == parameter.variadic]
    better = [one for one in same if says_more(one.annotation, parameter.annotation)]
    hint = max(better, key=lambda one: (told[one], one.annotation or "")).annotation if better else None
    by_name = not parameter.variadic and any(one.keyword_only for one in same)
    return replace(parameter, annotation=hint or parameter.annotation, keyword_only=parameter.keyword_only or by_name)


def _annotation(parameter: ast.arg, hints: dict[str, str]) -> str | None:
    written = unparse(parameter.annotation) if parameter.annotation else None
    hint = hints.get(parameter.arg)
    if hint is None or not (written in _VAGUE or written in _CALLABLES):
        return written
    return written if written in _CALLABLES and "Callable" not in hint else hint


def _type_of_default(default: ast.expr) -> str | None:
    """Return the type of a default value that is a constant other than None."""
    if isinstance(default, ast.Constant) and isinstance(default.value, bool | int | float | str | bytes):
        return type(default.value).__name__
    return None


def _hints_of_body(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> dict[str, str]:
    """Return type hints by name, for the names whose use in a function says what they are."""
    body: Iterable[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else node.body
    nodes = [inner for statement in body for inner in ast.walk(statement)]
    hints = _containers(node, nodes)
    callee = "AsyncCallable" if isinstance(node, ast.AsyncFunctionDef) else "Callable"
    for name, count in _called_names(nodes).items():
        hints[name] = f"{callee}[[{', '.join(['Any'] * count)}], Any]"
    for inner in nodes:
        if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name) and inner.attr in _READING:
            hints[inner.value.id] = "TextIO"
    return hints


def _containers(node: ast.AST, nodes: Sequence[ast.AST]) -> dict[str, str]:
    """Return hints for containers of containers: the first parameter, where a function looks for what its items are."""
    found: dict[str, str] = {}
    arguments = node.args.args if isinstance(node, ast.FunctionDef | ast.Lambda) else []
    if not arguments:
        return found
    calls = [call for call in nodes if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)]
    names = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
    first, recursive = arguments[0].arg, getattr(node, "name", None) in names
    for call in calls:
        if unparse(call.func) != "isinstance" or len(call.args) != 2:
            continue
        # unless the function calls itself, a check of the argument itself does not say what it holds
        if recursive or unparse(call.args[0]) != first:
            for kind in ast.walk(call.args[1]):
                if isinstance(kind, ast.Name) and kind.id in _NESTED:
                    found.setdefault(first, _NESTED[kind.id])
    return found


def _called_names(nodes: Iterable[ast.AST]) -> dict[str, int]:
    """Return the names that are called as functions, with the number of arguments."""
    called: dict[str, int] = {}
    for call in nodes:
        if not isinstance(call, ast.Call):
            continue
        if isinstance(call.func, ast.Name):
            called[call.func.id] = len(call.args)
        # functions that call the one they are given
        name = (unparse(call.func) or "").rpartition(".")[2]
        if name in _CALLERS and call.args and isinstance(call.args[0], ast.Name):
            called.setdefault(call.args[0].id, 2 if name == "reduce" else max(len(call.args) - 1, 1))
        for keyword in call.keywords:
            if keyword.arg == "key" and isinstance(keyword.value, ast.Name):
                called.setdefault(keyword.value.id, 1)
    return called
