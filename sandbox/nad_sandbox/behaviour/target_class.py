"""Find the class in the candidates' programs that answers a prompt, with its constructor, methods and public state."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nad_sandbox.behaviour.class_definition import ClassDefinition, class_definitions
from nad_sandbox.behaviour.target_function import Parameter
from nad_sandbox.checks.guarded_parse import parse_program

__all__ = ["Method", "TargetClass", "find_target_classes"]

_MOST_CLASSES = 4
_ASKED = re.compile(r"\b(class|dataclass|enum|enumeration|namedtuple)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Method:
    """A method that can be called on an object.

    Attributes:
        name: The method's name.
        parameters: The parameters without a default, in order.
    """

    name: str
    parameters: tuple[Parameter, ...] = ()


@dataclass(frozen=True)
class TargetClass:
    """The class whose objects are observed.

    Attributes:
        name: The class's name.
        constructor: The constructor's parameters without a default, in order.
        methods: The public methods that most programs have.
        attributes: The public attributes and properties that most programs have.
        views: Built-in functions that accept the objects of most programs: `str`, `repr`, `len`, `list`, `bool`.
        factories: The class methods and static methods of most programs that make objects.
        setters: The properties that can be assigned in most programs, each with the parameter of its setter.
        operators: Binary operators that the objects of most programs support.
        members: The members of an enumeration in most programs; empty for other classes.
    """

    name: str
    constructor: tuple[Parameter, ...]
    methods: tuple[Method, ...]
    attributes: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    factories: tuple[Method, ...] = ()
    setters: tuple[Method, ...] = ()
    operators: tuple[str, ...] = ()
    members: tuple[str, ...] = ()


def find_target_classes(prompt: str, programs: Sequence[str]) -> tuple[TargetClass, ...]:
    """Return the classes to observe; none if the prompt asks for a function, or most programs define no class.

    The prompt asks for a class if it names a class that most programs define, or contains a word such as "class". Among
    several classes, those that the prompt names are observed, or else the one in most programs, and of these the last
    one defined. Abstract classes have no objects.

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
    asked = bool(named) or _ASKED.search(prompt) is not None
    functions = sum(any(isinstance(node, ast.FunctionDef) for node in tree.body) for tree in trees)
    wants_function = re.search(r"^def \w+\(|\bfunction\b", prompt, re.MULTILINE) is not None
    if not asked or (wants_function and 2 * functions > len(trees)):
        return ()
    order = {name: place for classes in defined for place, name in enumerate(classes)}
    wanted = sorted(named or common, key=lambda name: (votes[name], order[name], name), reverse=True)
    return tuple(
        _merged(name, [classes[name] for classes in defined if name in classes])
        for name in wanted[: _MOST_CLASSES if named else 1]
    )


def _is_observable(name: str, defined: Iterable[dict[str, ClassDefinition]]) -> bool:
    return any(classes[name].observable for classes in defined if name in classes)


def _merged(name: str, seen: Sequence[ClassDefinition]) -> TargetClass:
    """Merge the programs' definitions of a class into what most of them have in common."""
    methods = _methods([one.methods for one in seen])
    kept = {method.name for method in methods}
    return TargetClass(
        name,
        _usual([one.constructor for one in seen]),
        methods,
        tuple(a for a in sorted(_of_most([one.attributes for one in seen])) if a not in kept),
        tuple(sorted(_of_most([one.views for one in seen]))),
        _methods([one.factories for one in seen]),
        _methods([one.setters for one in seen]),
        tuple(sorted(_of_most([one.operators for one in seen]))),
        tuple(_of_most([one.members for one in seen])),
    )


def _of_most(names: Sequence[Iterable[str]]) -> list[str]:
    """Return the names that most programs have, in the order in which they first occur."""
    votes = Counter(name for one in names for name in one)
    return [name for name in votes if 2 * votes[name] > len(names)]


def _methods(seen: Sequence[Mapping[str, tuple[Parameter, ...]]]) -> tuple[Method, ...]:
    """Return the methods that at least half of the programs have, each with its most frequent signature."""
    votes = Counter(name for one in seen for name in one)
    kept = [name for name in votes if 2 * votes[name] >= len(seen)]
    return tuple(Method(name, _usual([one[name] for one in seen if name in one])) for name in kept)


def _usual(signatures: Sequence[tuple[Parameter, ...]]) -> tuple[Parameter, ...]:
    """Return the most frequent signature among those with the most frequent number of parameters."""
    lengths = Counter(map(len, signatures))
    length = max(lengths, key=lambda n: (lengths[n], -n))
    counts = Counter(signature for signature in signatures if len(signature) == length)
    return max(counts, key=lambda signature: (counts[signature], str(signature)))
