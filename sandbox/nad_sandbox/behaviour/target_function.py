"""Find the function of the candidates' programs that answers a prompt, and its parameters."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nad_sandbox.checks.guarded_parse import parse_program, unparse

__all__ = ["Parameter", "TargetFunction", "find_target_function", "reads_standard_input", "required_parameters"]


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function.

    Attributes:
        name: Name of the parameter.
        annotation: Source of its type hint; None without one.
    """

    name: str
    annotation: str | None = None


@dataclass(frozen=True)
class TargetFunction:
    """The function that is called on every input.

    Attributes:
        callee: Source of the function, such as ``add`` or ``Solution().add``.
        parameters: The parameters without a default, in order.
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
    parameters = max(signatures, key=lambda s: (signatures[s], str(s)))
    hints = _hints(prompt, wanted.rpartition(".")[2])
    return TargetFunction(wanted, tuple(Parameter(p.name, hints.get(p.name, p.annotation)) for p in parameters))


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
        elif isinstance(node, ast.ClassDef) and node.name == "Solution":
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    found[f"Solution().{method.name}"] = required_parameters(method)[1:]
    return {name: parameters for name, parameters in found.items() if name != "main" or len(found) == 1}


def required_parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[Parameter, ...]:
    """Return the parameters without a default, in order; those of a method include the object."""
    positional = [*node.args.posonlyargs, *node.args.args]
    required = positional[: len(positional) - len(node.args.defaults)]
    return tuple(Parameter(a.arg, unparse(a.annotation) if a.annotation else None) for a in required)


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
