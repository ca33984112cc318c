"""Find the class in the candidates' programs that answers a prompt, with its constructor, methods and public state."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nad_sandbox.behaviour.target_function import Parameter, required_parameters
from nad_sandbox.checks.guarded_parse import parse_program, unparse

__all__ = ["Method", "TargetClass", "find_target_class"]

_NO_OBJECTS = {"Solution", "Exception", "ValueError", "Enum", "IntEnum", "Protocol", "ABC", "TypedDict", "TestCase"}
"""Names of classes whose objects are not observed, neither their own nor those of a derived class."""

_VIEWS = {"__str__": "str", "__len__": "len", "__iter__": "list"}
"""Built-in functions that show an object's state, by the special method that they call."""


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
        views: Built-in functions that accept the objects of most programs: `str`, `len`, `list`.
    """

    name: str
    constructor: tuple[Parameter, ...]
    methods: tuple[Method, ...]
    attributes: tuple[str, ...] = ()
    views: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Defined:
    """The class as one program defines it."""

    constructor: tuple[Parameter, ...]
    methods: dict[str, tuple[Parameter, ...]]
    attributes: frozenset[str]
    views: frozenset[str]


def find_target_class(prompt: str, programs: Sequence[str]) -> TargetClass | None:
    """Return the class to observe; None if the prompt asks for a function, or most programs define no class.

    The prompt asks for a class if it names a class that most programs define, or contains the word "class". Among
    several classes, those that the prompt names come first, then the one in most programs, then the last one defined.

    Args:
        prompt: The prompt that the model answered.
        programs: Source texts of the programs; those that do not parse are ignored.
    """
    trees = [tree for program in programs if (tree := parse_program(program)) is not None]
    defined = [_classes(tree.body) for tree in trees]
    votes = Counter(name for classes in defined for name in classes)
    common = [name for name in votes if 2 * votes[name] > len(defined) and _has_methods(name, defined)]
    if not common:
        return None
    named = [name for name in common if re.search(rf"\b{re.escape(name)}\b", prompt)]
    asked = bool(named) or re.search(r"\bclass\b", prompt, re.IGNORECASE) is not None
    functions = sum(any(isinstance(node, ast.FunctionDef) for node in tree.body) for tree in trees)
    wants_function = re.search(r"^def \w+\(|\bfunction\b", prompt, re.MULTILINE) is not None
    if not asked or (wants_function and 2 * functions > len(trees)):
        return None
    order = {name: place for classes in defined for place, name in enumerate(classes)}
    wanted = max(named or common, key=lambda name: (votes[name], order[name], name))
    return _merged(wanted, [classes[wanted] for classes in defined if wanted in classes])


def _has_methods(name: str, defined: Iterable[dict[str, _Defined]]) -> bool:
    return any(classes[name].methods for classes in defined if name in classes)


def _classes(body: list[ast.stmt]) -> dict[str, _Defined]:
    """Return the classes among a program's statements whose objects can be observed."""
    found = {}
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name not in _NO_OBJECTS:
            bases = {(unparse(base) or "").rpartition(".")[2] for base in node.bases}
            if not bases & _NO_OBJECTS:
                found[node.name] = _described(node)
    return found


def _described(node: ast.ClassDef) -> _Defined:
    constructor: tuple[Parameter, ...] = ()
    methods: dict[str, tuple[Parameter, ...]] = {}
    attributes, views = set(), set()
    if any((unparse(decorator) or "").startswith(("dataclass", "dataclasses.")) for decorator in node.decorator_list):
        fields = [item for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)]
        attributes |= {item.target.id for item in fields if isinstance(item.target, ast.Name)}
        constructor = tuple(
            Parameter(item.target.id, unparse(item.annotation))
            for item in fields
            if item.value is None and isinstance(item.target, ast.Name)
        )
    for item in node.body:
        if not isinstance(item, ast.FunctionDef):
            continue
        decorators = {unparse(decorator) for decorator in item.decorator_list}
        if item.name == "__init__":
            constructor = _positional(item)[1:]
            attributes |= _assigned(item)
        elif item.name in _VIEWS:
            views.add(_VIEWS[item.name])
        elif item.name.startswith("_"):
            continue
        elif "property" in decorators:
            attributes.add(item.name)
        elif decorators <= {"staticmethod"}:
            methods[item.name] = _positional(item)[0 if decorators else 1 :]
    return _Defined(constructor, methods, frozenset(name for name in attributes if name[0] != "_"), frozenset(views))


def _positional(node: ast.FunctionDef) -> tuple[Parameter, ...]:
    return tuple(parameter for parameter in required_parameters(node) if not parameter.keyword_only)


def _assigned(constructor: ast.FunctionDef) -> set[str]:
    """Return the names of the attributes that a constructor assigns."""
    return {
        node.attr
        for node in ast.walk(constructor)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


def _merged(name: str, seen: Sequence[_Defined]) -> TargetClass:
    """Merge the programs' definitions of a class into what most of them have in common."""
    methods = Counter(method for one in seen for method in one.methods)
    order = [method for one in seen for method in one.methods]
    kept = [method for method in dict.fromkeys(order) if 2 * methods[method] >= len(seen)]
    attributes = Counter(attribute for one in seen for attribute in one.attributes)
    views = Counter(view for one in seen for view in one.views)
    return TargetClass(
        name,
        _usual([one.constructor for one in seen]),
        tuple(Method(m, _usual([one.methods[m] for one in seen if m in one.methods])) for m in kept),
        tuple(sorted(a for a in attributes if 2 * attributes[a] > len(seen) and a not in kept)),
        tuple(sorted(view for view in views if 2 * views[view] > len(seen))),
    )


def _usual(signatures: Sequence[tuple[Parameter, ...]]) -> tuple[Parameter, ...]:
    """Return the most frequent signature among those with the most frequent number of parameters."""
    lengths = Counter(map(len, signatures))
    length = max(lengths, key=lambda n: (lengths[n], -n))
    counts = Counter(signature for signature in signatures if len(signature) == length)
    return max(counts, key=lambda signature: (counts[signature], str(signature)))
