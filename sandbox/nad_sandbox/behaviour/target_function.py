"""Find the functions of the candidates' programs that answer a prompt, and their parameters."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from nad_sandbox.behaviour.signature import (
    Parameter,
    Signature,
    all_parameters,
    required_parameters,
    says_more,
    usual_hints,
)
from nad_sandbox.checks.guarded_parse import parse_program

__all__ = ["Parameter", "TargetFunction", "find_target_function", "find_target_functions", "reads_standard_input"]

_MOST_FUNCTIONS = 4
_SEVERAL = re.compile(r"\bfunctions\b", re.IGNORECASE)


@dataclass(frozen=True)
class TargetFunction:
    """The function that is called on every input.

    Attributes:
        callee: Source of the function, such as ``add`` or ``Solution().add``.
        parameters: The parameters without a default, in order, and those that take any number of arguments.
        optional: Parameters with a default value that the prompt names.
    """

    callee: str
    parameters: Signature
    optional: Signature = ()


def find_target_function(prompt: str, programs: Sequence[str]) -> TargetFunction | None:
    """Find the function to call; None when most programs are scripts.

    The first rule that applies decides: the last function whose signature the prompt gives; the function that the
    prompt mentions; the function that most programs define, and of several such functions the one defined last.
    Functions that a program defines inside a class ``Solution`` count.

    Args:
        prompt: The prompt that the model answered.
        programs: Source texts; those that do not parse are ignored.
    """
    return next(iter(find_target_functions(prompt, programs)), None)


def find_target_functions(prompt: str, programs: Sequence[str]) -> tuple[TargetFunction, ...]:
    """Return the function that `find_target_function` finds, and others that a prompt for several functions names.

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
            return ()
        most = max(votes.values())
        order = {callee: place for functions in defined for place, callee in enumerate(functions)}
        wanted = max((callee for callee in votes if votes[callee] == most), key=lambda c: (order[c], c))
    callees = [wanted]
    if not in_prompt and _SEVERAL.search(prompt):
        words = {*re.findall(r"\w+", prompt), *names}
        named = [callee for name, callee in by_name.items() if name in words and 2 * votes[callee] > len(defined)]
        callees = [wanted, *(callee for callee in named if callee != wanted)] if wanted in named else named or callees
    return tuple(_target(callee, defined, prompt) for callee in callees[:_MOST_FUNCTIONS])


def _target(callee: str, defined: Iterable[dict[str, Signature]], prompt: str) -> TargetFunction:
    """Return a function with the parameters that it has in most programs."""
    seen = [functions[callee] for functions in defined if callee in functions]
    signatures = Counter(_required(signature) for signature in seen)
    # the longer of equally frequent signatures fits programs that have defaults too
    parameters = max(signatures, key=lambda s: (signatures[s], len(s), str(s)))
    parameters = usual_hints(parameters, seen)
    hints = _hints(prompt, callee.rpartition(".")[2])
    return TargetFunction(
        callee,
        tuple(_hinted(parameter, hints.get(parameter.name)) for parameter in parameters),
        _options_in_prompt(seen, parameters, prompt),
    )


def _required(signature: Signature) -> Signature:
    return tuple(parameter for parameter in signature if not parameter.optional)


def _options_in_prompt(seen: Sequence[Signature], required: Signature, prompt: str) -> Signature:
    """Return the parameters with a default that all programs have and the prompt names."""
    known = {parameter.name for parameter in required}
    everywhere = set.intersection(*({one.name for one in signature} for signature in seen)) - known
    options = {one.name: one for signature in seen for one in signature if one.optional and one.name in everywhere}
    return tuple(one for name, one in options.items() if re.search(rf"\b{re.escape(name)}\b", prompt))


def _hinted(parameter: Parameter, hint: str | None) -> Parameter:
    """Return a parameter with the type hint of the prompt, unless the program says more."""
    if hint is None or says_more(parameter.annotation, hint):
        return parameter
    return replace(parameter, annotation=hint)


def reads_standard_input(program: str) -> bool:
    """Return whether a program mentions its standard input."""
    return re.search(r"\binput\(|\bsys\.stdin\b|\bopen\(0\)", program) is not None


def _functions(program: str) -> dict[str, Signature] | None:
    """Return the functions that can be called from outside, with their parameters; None when source does not parse."""
    tree = parse_program(program)
    return None if tree is None else _defined(tree.body)


def _defined(body: list[ast.stmt]) -> dict[str, Signature]:
    """Return the functions that statements define, with their parameters."""
    found = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] = all_parameters(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Lambda):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: all_parameters(node.value) for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ClassDef) and node.name == "Solution":
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    found[f"Solution().{method.name}"] = all_parameters(method)[1:]
    return {name: parameters for name, parameters in found.items() if name != "main" or len(found) == 1}


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
