"""Find the classes in the candidates' programs that answer a prompt, with their constructors, methods and state."""

from __future__ import annotations

import ast
import builtins
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nad_sandbox.behaviour.class_definition import ClassDefinition, ClassKind, class_definitions
from nad_sandbox.behaviour.signature import Parameter, Signature, usual_signature
from nad_sandbox.checks.guarded_parse import parse_program

__all__ = ["Method", "TargetClass", "find_target_classes"]

_MOST_CLASSES = 4
_ASKED = re.compile(
    r"\b(class(es)?|dataclass|enum|enumeration|namedtuple|exceptions?|context manager|decorators?|descriptor|iterator"
    r"|metaclass|singleton|linked list|data structure|memoi[sz]e|model)\b",
    re.IGNORECASE,
)
_FUNCTION_ASKED = re.compile(r"^def \w+\(|\bfunction\b(?! decorator)", re.MULTILINE)
_PREVALENT = 0.8
"""Share of programs that have to have something in common that the prompt does not name."""


@dataclass(frozen=True)
class Method:
    """A method that can be called on an object.

    Attributes:
        name: The method's name.
        parameters: The parameters without a default, in order.
        optional: Parameters with a default that the prompt names.
    """

    name: str
    parameters: Signature = ()
    optional: Signature = ()


@dataclass(frozen=True)
class TargetClass:
    """The class whose objects are observed, or a function that makes context managers or decorates functions.

    Attributes:
        name: The class's name.
        constructor: The constructor's parameters without a default, in order.
        methods: The public methods that the programs have in common.
        attributes: The public attributes and properties that the programs have in common.
        views: Built-in functions and unary operators that accept the objects of most programs, such as `str` or `-`.
        factories: The class methods and static methods of most programs that make objects.
        setters: The properties that can be assigned in most programs, each with the parameter of its setter.
        operators: Operators that the objects of most programs support, such as `it + other`.
        members: The members of an enumeration in most programs; empty for other classes.
        optional: The constructor's parameters with a default that the prompt names.
        contexts: The statements that the objects of most programs can be used in: `with`, `async with`.
        ancestors: Names of the classes from which that of any program derives.
        kind: How objects are made.
    """

    name: str
    constructor: Signature
    methods: tuple[Method, ...]
    attributes: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    factories: tuple[Method, ...] = ()
    setters: tuple[Method, ...] = ()
    operators: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    optional: Signature = ()
    contexts: tuple[str, ...] = ()
    ancestors: tuple[str, ...] = ()
    kind: ClassKind = "class"


def find_target_classes(prompt: str, programs: Sequence[str]) -> tuple[TargetClass, ...]:
    """Return the classes to observe; none if the prompt asks for a function, or most programs define no class.

    If most programs define functions too, the prompt has to ask for a class: it names a class that most programs
    define, or contains a word such as "class". Among several classes, those that the prompt names are observed, or else
    the one in most programs, and of these the last one defined. Abstract classes have no objects.

    Args:
        prompt: The prompt that the model answered.
        programs: Source texts of the programs; those that do not parse are ignored.
    """
    trees = [tree for program in programs if (tree := parse_program(program)) is not None]
    defined = [class_definitions(tree.body) for tree in trees]
    votes = Counter(name for classes in defined for name in classes)
    common = [name for name in votes if 2 * votes[name] > len(defined) and _is_observable(name, defined)]
    if not common:
        return ()
    named = [name for name in common if re.search(rf"\b{re.escape(name)}\b", prompt)]
    named = named or [name for name in common if _words(name) in prompt.lower()]
    asked = bool(named) or _ASKED.search(prompt) is not None
    functions = sum(_defines_function(tree, classes) for tree, classes in zip(trees, defined, strict=True))
    if 2 * functions > len(trees) and (not asked or _FUNCTION_ASKED.search(prompt)):
        return ()
    order = {name: place for classes in defined for place, name in enumerate(classes)}
    wanted = sorted(named or common, key=lambda name: (votes[name], order[name], name), reverse=True)
    seen = [(name, [classes[name] for classes in defined if name in classes]) for name in wanted]
    if not named:
        # what a program defines for its own use, such as the nodes of a list, comes before what uses it
        return tuple(_merged(name, one, prompt) for name, one in seen[:1])
    return tuple(_merged(name, one, prompt) for name, one in seen[:_MOST_CLASSES])


def _words(name: str) -> str:
    """Return a class's name as words, such as "linked list"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower()


def _defines_function(tree: ast.Module, classes: Mapping[str, ClassDefinition]) -> bool:
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name != "main" and node.name not in classes
        for node in tree.body
    )


def _is_observable(name: str, defined: Iterable[dict[str, ClassDefinition]]) -> bool:
    return any(classes[name].observable for classes in defined if name in classes)


def _merged(name: str, seen: Sequence[ClassDefinition], prompt: str) -> TargetClass:
    """Merge the programs' definitions of a class into what they have in common."""
    methods = _methods([one.methods for one in seen], prompt)
    kept = {method.name for method in methods}
    kind = Counter(one.kind for one in seen).most_common(1)[0][0]
    operators = _of_most([one.operators for one in seen])
    if "singleton" in prompt.lower() and kind == "class":
        operators = list(dict.fromkeys([*operators, "it is other"]))
    constructors = [one.constructor for one in seen]
    required = usual_signature(constructors)
    return TargetClass(
        name,
        required,
        methods,
        tuple(a for a in sorted(_in_common([one.attributes for one in seen], prompt)) if a not in kept),
        tuple(sorted(_of_most([one.views for one in seen]))),
        _methods([one.factories for one in seen], prompt),
        _methods([one.setters for one in seen], prompt),
        tuple(sorted(operators)),
        tuple(_of_most([one.members for one in seen])),
        named_options(constructors, required, prompt),
        tuple(sorted(_of_most([one.contexts for one in seen]))),
        _ancestors([one.ancestors for one in seen], prompt),
        kind,
    )


def _ancestors(seen: Sequence[Iterable[str]], prompt: str) -> tuple[str, ...]:
    """Return the classes of which it is asked whether an object belongs to them: those that every program knows."""
    common = set(_in_common(seen, prompt))
    known = {name for names in seen for name in names if _is_exception(name) or _mentions(prompt, name)}
    return tuple(sorted(common | known))


def _is_exception(name: str) -> bool:
    kind = getattr(builtins, name, None)
    return isinstance(kind, type) and issubclass(kind, BaseException)


def _of_most(names: Sequence[Iterable[str]]) -> list[str]:
    """Return the names that most programs have, in the order in which they first occur."""
    votes = Counter(name for one in names for name in one)
    return [name for name in votes if 2 * votes[name] > len(names)]


def _in_common(names: Sequence[Iterable[str]], prompt: str) -> list[str]:
    """Return the names that nearly all programs have, and those that most programs have and the prompt mentions.

    What else most programs have is a matter of taste, and a program without it may be as right.
    """
    votes = Counter(name for one in names for name in one)
    return [
        name
        for name in votes
        if votes[name] >= _PREVALENT * len(names) or (2 * votes[name] > len(names) and _mentions(prompt, name))
    ]


def _mentions(prompt: str, name: str) -> bool:
    words = re.escape(name).replace("_", "[_ ]")
    return len(name) > 1 and re.search(rf"\b{words}\b", prompt, re.IGNORECASE) is not None


def named_options(signatures: Sequence[Signature], required: Signature, prompt: str) -> Signature:
    """Return the parameters with a default value that the prompt mentions and all programs have.

    Args:
        signatures: The signature in each program.
        required: The parameters that are given anyway.
        prompt: The prompt that the programs answer.
    """
    known = {parameter.name for parameter in required}
    everywhere = set.intersection(*({parameter.name for parameter in one} for one in signatures))
    found: dict[str, Parameter] = {}
    for parameter in (parameter for one in signatures for parameter in one):
        wanted = parameter.optional and parameter.name in everywhere - known and _mentions(prompt, parameter.name)
        if wanted and found.get(parameter.name, Parameter("")).annotation is None:
            found[parameter.name] = parameter
    return tuple(found.values())


def _methods(seen: Sequence[Mapping[str, Signature]], prompt: str) -> tuple[Method, ...]:
    """Return the methods that the programs have in common, each with its most frequent signature."""
    votes = Counter(name for one in seen for name in one)
    kept = _in_common(seen, prompt) or [name for name in votes if 2 * votes[name] >= len(seen)]
    made = []
    for name in (name for name in votes if name in kept):
        signatures = [one[name] for one in seen if name in one]
        required = usual_signature(signatures)
        made.append(Method(name, required, named_options(signatures, required, prompt)))
    return tuple(made)
