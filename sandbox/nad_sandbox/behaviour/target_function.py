"""Find the function of the candidates' programs that answers a prompt, and its parameters."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nad_sandbox.checks.guarded_parse import parse_program, unparse

__all__ = ["Parameter", "TargetFunction", "find_target_function", "reads_standard_input", "required_parameters"]

_CALLABLES = ("Callable", "typing.Callable", "collections.abc.Callable", "callable", "function")
"""Type hints of functions that do not say which arguments they take."""
_CALLERS = ("map", "filter", "reduce", "starmap", "takewhile", "dropwhile")


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function.

    Attributes:
        name: Name of the parameter.
        annotation: Source of its type hint; None without one.
        keyword_only: Whether its argument is given by name.
        variadic: Whether it takes any number of arguments, as ``*args`` does, or ``**kwargs`` if `keyword_only`; the
            type hint is that of one argument.
    """

    name: str
    annotation: str | None = None
    keyword_only: bool = False
    variadic: bool = False


@dataclass(frozen=True)
class TargetFunction:
    """The function that is called on every input.

    Attributes:
        callee: Source of the function, such as ``add`` or ``Solution().add``.
        parameters: The parameters without a default, in order, and those that take any number of arguments.
    """

    callee: str
    parameters: tuple[Parameter, ...]


def find_target_function(prompt: str, programs: Sequence[str]) -> TargetFunction | None:
    """Find the function to call; None when most programs are scripts.

    The first rule that applies decides: the last function whose signature the prompt gives; the function that the
    prompt mentions; the function that most programs define, and of several such functions the one defined last.
    Functions that a program defines inside a class ``Solution`` count.

    Args:
        prompt: The prompt that the model answered.
        programs: Source texts; those that do not parse are ignored.
    """
    defined = [functions for program in programs if (functions := _functions(program)) is not None]
    votes = Counter(callee for functions in defined for callee in functions)
    in_prompt = [
        name for name in re.findall(r"^\s*(?:async )?def (\w+)\(", prompt, re.MULTILINE) if not name.startswith("__")
    ]
    mentioned = re.findall(r"\b([A-Za-z_]\w*)\(|`([A-Za-z_]\w*)`", prompt)
    names = [*reversed(in_prompt), *(call or quoted for call, quoted in mentioned)]
    by_name = {callee.rpartition(".")[2]: callee for callee in votes}
    wanted = next((by_name[name] for name in names if name in by_name), None)
    if wanted is None:
        if not votes or 2 * sum(bool(functions) for functions in defined) < len(defined):
            return None
        most = max(votes.values())
        order = {callee: place for functions in defined for place, callee in enumerate(functions)}
        wanted = max((callee for callee in votes if votes[callee] == most), key=lambda c: (order[c], c))
    signatures = Counter(functions[wanted] for functions in defined if wanted in functions)
    # the longer of equally frequent signatures fits programs that have defaults too
    parameters = max(signatures, key=lambda s: (signatures[s], len(s), str(s)))
    hints = _hints(prompt, wanted.rpartition(".")[2])
    return TargetFunction(wanted, tuple(_hinted(parameter, hints.get(parameter.name)) for parameter in parameters))


def _hinted(parameter: Parameter, hint: str | None) -> Parameter:
    """Return a parameter with the type hint of the prompt, unless the program says more about a function."""
    if hint is None or (hint in _CALLABLES and parameter.annotation):
        return parameter
    return replace(parameter, annotation=hint)


def reads_standard_input(program: str) -> bool:
    """Return whether a program mentions its standard input."""
    return re.search(r"\binput\(|\bsys\.stdin\b|\bopen\(0\)", program) is not None


def _functions(program: str) -> dict[str, tuple[Parameter, ...]] | None:
    """Return the functions that can be called from outside, with their parameters; None when source does not parse."""
    tree = parse_program(program)
    return None if tree is None else _defined(tree.body)


def _defined(body: list[ast.stmt]) -> dict[str, tuple[Parameter, ...]]:
    """Return the functions that statements define, with their parameters."""
    found = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] = required_parameters(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Lambda):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: required_parameters(node.value) for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ClassDef) and node.name == "Solution":
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    found[f"Solution().{method.name}"] = required_parameters(method)[1:]
    return {name: parameters for name, parameters in found.items() if name != "main" or len(found) == 1}


def required_parameters(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> tuple[Parameter, ...]:
    """Return the parameters without a default, in order, and ``*args`` and ``**kwargs``; a method's include the object.

    A parameter that the function calls gets a type hint which says with how many arguments. After parameters with a
    default, ``*args`` is left out, since its arguments would be theirs.
    """
    positional = [*node.args.posonlyargs, *node.args.args]
    required = positional[: len(positional) - len(node.args.defaults)]
    by_name = [a for a, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if default is None]
    many = [node.args.vararg] if node.args.vararg and not node.args.defaults else []
    many_by_name = [node.args.kwarg] if node.args.kwarg else []
    called = _called_names(node)
    return tuple(
        Parameter(a.arg, _annotation(a, called), keyword_only, variadic)
        for parameters, keyword_only, variadic in (
            (required, False, False),
            (many, False, True),
            (by_name, True, False),
            (many_by_name, True, True),
        )
        for a in parameters
    )


def _annotation(parameter: ast.arg, called: dict[str, int]) -> str | None:
    written = unparse(parameter.annotation) if parameter.annotation else None
    if parameter.arg in called and (written is None or written in _CALLABLES):
        return f"Callable[[{', '.join(['Any'] * called[parameter.arg])}], Any]"
    return written


def _called_names(node: ast.AST) -> dict[str, int]:
    """Return the names that are called as functions, with the number of arguments."""
    called: dict[str, int] = {}
    for call in ast.walk(node):
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


def _hints(prompt: str, function: str) -> dict[str, str]:
    """Return the type hints in the prompt's signature of a function."""
    found = re.search(rf"^\s*(?:async )?def {re.escape(function)}\(.*?\)[^:\n]*:", prompt, re.MULTILINE | re.DOTALL)
    if found is None:
        return {}
    tree = parse_program(found[0].strip() + " pass")
    node = tree.body[0] if tree is not None else None
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return {}
    return {p.name: p.annotation for p in required_parameters(node) if p.annotation}
