"""Which function of the candidates' programs answers a prompt, and what its parameters are."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Parameter", "Target", "find_target", "reads_standard_input"]


@dataclass(frozen=True)
class Parameter:
    """One parameter: its name, and its type hint as source text where there is one."""

    name: str
    annotation: str | None = None


@dataclass(frozen=True)
class Target:
    """What is called: source of the callee (``add``, ``Solution().add``) and its required parameters."""

    callee: str
    parameters: tuple[Parameter, ...]


def find_target(prompt: str, programs: Sequence[str]) -> Target | None:
    """The function to call; None when most programs are scripts.

    In this order: the last function whose signature the prompt gives; the one that the prompt mentions; the one that
    most programs define, the later of equals. Functions that a program defines inside a class ``Solution`` count.

    Args:
        prompt: what the model was asked.
        programs: source texts; those that do not parse have no say.
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
    return Target(wanted, tuple(Parameter(p.name, hints.get(p.name, p.annotation)) for p in parameters))


def reads_standard_input(program: str) -> bool:
    """Whether a program mentions its standard input."""
    return re.search(r"\binput\(|\bsys\.stdin\b|\bopen\(0\)", program) is not None


def _functions(program: str) -> dict[str, tuple[Parameter, ...]] | None:
    """The functions that can be called from outside, with their parameters; None for source that does not parse."""
    try:
        return _defined(ast.parse(program).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError, SystemError):
        return None


def _defined(body: list[ast.stmt]) -> dict[str, tuple[Parameter, ...]]:
    """The functions in a program's statements; may run into the interpreter's limits like parsing."""
    found = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] = _parameters(node)
        elif isinstance(node, ast.ClassDef) and node.name == "Solution":
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    found[f"Solution().{method.name}"] = _parameters(method)[1:]
    return {name: parameters for name, parameters in found.items() if name != "main" or len(found) == 1}


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[Parameter, ...]:
    """The parameters without a default."""
    positional = [*node.args.posonlyargs, *node.args.args]
    required = positional[: len(positional) - len(node.args.defaults)]
    return tuple(Parameter(a.arg, ast.unparse(a.annotation) if a.annotation else None) for a in required)


def _hints(prompt: str, function: str) -> dict[str, str]:
    """The type hints in the prompt's signature of a function."""
    found = re.search(rf"^\s*(?:async )?def {re.escape(function)}\(.*?\)[^:\n]*:", prompt, re.MULTILINE | re.DOTALL)
    if found is None:
        return {}
    try:
        node = ast.parse(found[0].strip() + " pass").body[0]
    except (SyntaxError, ValueError):
        return {}
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return {p.name: p.annotation for p in _parameters(node) if p.annotation}
