"""Read a class from a program's source: its constructors, methods, public state, and what its objects support."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from nad_sandbox.behaviour.target_function import Parameter, required_parameters
from nad_sandbox.checks.guarded_parse import unparse

__all__ = ["ClassDefinition", "class_definitions"]

_NO_OBJECTS = {"Solution", "Exception", "ValueError", "Protocol", "TypedDict", "TestCase"}
"""Names of classes whose objects are not observed, neither their own nor those of a derived class."""
_ENUMS = {"Enum", "IntEnum", "StrEnum", "Flag", "IntFlag"}
_OF_MEMBERS = frozenset({"name", "value"})
_DATACLASSES = {"dataclass", "define", "frozen", "mutable", "attrs", "s"}
"""Names of decorators, without their module, that make a constructor from the class's fields."""

_VIEWS = {"__str__": "str", "__repr__": "repr", "__len__": "len", "__iter__": "list", "__bool__": "bool"}
"""Built-in functions that show an object's state, by the special method that they call."""
_OPERATORS = {
    "__eq__": "==",
    "__lt__": "<",
    "__le__": "<=",
    "__add__": "+",
    "__sub__": "-",
    "__mul__": "*",
    "__and__": "&",
    "__or__": "|",
}
"""Operators between two objects of a class, by the special method through which the class supports them."""
_SPECIAL_METHODS = {"__getitem__", "__setitem__", "__delitem__", "__contains__", "__call__"}
"""Special methods that are called with generated arguments."""

Signature = tuple[Parameter, ...]


@dataclass(frozen=True)
class ClassDefinition:
    """A class as one program defines it, with what it inherits from other classes of the program.

    Attributes:
        constructor: The constructor's parameters.
        methods: The public methods, and the special ones that take arguments, with their parameters.
        factories: The class methods and static methods that make objects, with their parameters.
        setters: The properties that can be assigned, with one parameter, and the first field of a frozen dataclass.
        attributes: The public attributes and properties.
        views: Built-in functions that accept the objects: `str`, `repr`, `len`, `list`, `bool`.
        operators: Binary operators that the objects support.
        members: The members of an enumeration; empty for other classes.
        abstract: Names of the methods that a derived class has to define.
        enumeration: Whether the members are the only objects.
    """

    constructor: Signature = ()
    methods: Mapping[str, Signature] = field(default_factory=dict)
    factories: Mapping[str, Signature] = field(default_factory=dict)
    setters: Mapping[str, Signature] = field(default_factory=dict)
    attributes: frozenset[str] = frozenset()
    views: frozenset[str] = frozenset()
    operators: frozenset[str] = frozenset()
    members: tuple[str, ...] = ()
    abstract: frozenset[str] = frozenset()
    enumeration: bool = False

    @property
    def observable(self) -> bool:
        """Whether the class has objects, and something to see on them."""
        if self.abstract or self.enumeration:
            return bool(self.members)
        return bool(self.methods or self.attributes)


def class_definitions(body: Iterable[ast.stmt]) -> dict[str, ClassDefinition]:
    """Return the classes among a program's statements whose objects can be observed, in the order of the source."""
    found: dict[str, ClassDefinition] = {}
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            made = _called_for(node.value)
            if made is not None:
                found[node.targets[0].id] = made
        elif isinstance(node, ast.ClassDef):
            bases = [_last_name(base) for base in node.bases]
            if not {node.name, *bases} & _NO_OBJECTS:
                found[node.name] = _described(node, bases, [found[base] for base in bases if base in found])
    return found


def _last_name(node: ast.expr) -> str:
    """Return the name of a base or decorator without its module, its arguments and its type parameters."""
    while isinstance(node, ast.Subscript | ast.Call):
        node = node.value if isinstance(node, ast.Subscript) else node.func
    return (unparse(node) or "").rpartition(".")[2]


def _called_for(node: ast.expr) -> ClassDefinition | None:
    """Return the class that a call of `namedtuple`, `NamedTuple` or `Enum` makes; None for other expressions."""
    if not (isinstance(node, ast.Call) and len(node.args) > 1):
        return None
    kind, names = _last_name(node), _names(node.args[1])
    if kind in _ENUMS:
        return ClassDefinition(attributes=_OF_MEMBERS, members=names, enumeration=True)
    if kind in ("namedtuple", "NamedTuple"):
        return ClassDefinition(tuple(map(Parameter, names)), attributes=frozenset(names), operators=frozenset({"=="}))
    return None


def _names(node: ast.expr) -> tuple[str, ...]:
    """Return the names in a text, or in a list of names or of pairs of a name and something else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return tuple(node.value.replace(",", " ").split())
    items = node.elts if isinstance(node, ast.List | ast.Tuple) else []
    if isinstance(node, ast.Dict):
        items = [key for key in node.keys if key is not None]
    first = [item.elts[0] if isinstance(item, ast.Tuple) and item.elts else item for item in items]
    return tuple(item.value for item in first if isinstance(item, ast.Constant) and isinstance(item.value, str))


def _described(node: ast.ClassDef, bases: list[str], inherited: list[ClassDefinition]) -> ClassDefinition:
    """Return what a class defines and inherits."""
    constructor: Signature = next((base.constructor for base in inherited if base.constructor), ())
    methods = {name: given for base in reversed(inherited) for name, given in base.methods.items()}
    factories = {name: given for base in reversed(inherited) for name, given in base.factories.items()}
    setters = {name: given for base in reversed(inherited) for name, given in base.setters.items()}
    attributes = {name for base in inherited for name in base.attributes}
    views = {name for base in inherited for name in base.views}
    operators = {name for base in inherited for name in base.operators}
    abstract = {name for base in inherited for name in base.abstract}
    is_enum = bool(_ENUMS & set(bases)) or any(base.enumeration for base in inherited)
    decorators = {_last_name(decorator): unparse(decorator) or "" for decorator in node.decorator_list}
    members = _assigned_names(node) if is_enum else ()
    if is_enum:
        attributes |= _OF_MEMBERS
    elif "NamedTuple" in bases or _DATACLASSES & decorators.keys():
        fields = [item for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)]
        constructor += tuple(parameter for item in fields if (parameter := _field_parameter(item)) is not None)
        attributes |= {item.target.id for item in fields if isinstance(item.target, ast.Name) and _is_field(item)}
        if constructor and any("frozen=True" in text for text in decorators.values()):
            setters[constructor[0].name] = constructor[:1]
        operators |= {"=="} | ({"<"} if any("order=True" in text for text in decorators.values()) else set())
    else:
        attributes |= set(_assigned_names(node))
    for item in node.body:
        if not isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        marks = {_last_name(decorator) for decorator in item.decorator_list}
        abstract.discard(item.name)
        if "abstractmethod" in marks:
            abstract.add(item.name)
        given = _positional(item)[0 if "staticmethod" in marks else 1 :]
        role = _role(item, marks, node.name)
        if role == "constructor":
            constructor = given if item.name == "__init__" else constructor
            attributes |= _assigned_attributes(item)
        elif role == "attribute":
            attributes.add(item.name)
        elif role != "none":
            {"method": methods, "factory": factories, "setter": setters}[role][item.name] = given
    defined = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
    views |= {_VIEWS[name] for name in defined & _VIEWS.keys()}
    operators |= {_OPERATORS[name] for name in defined & _OPERATORS.keys()}
    return ClassDefinition(
        constructor,
        methods,
        factories,
        setters,
        frozenset(name for name in attributes if name[0] != "_" and name not in methods),
        frozenset(views),
        frozenset(operators),
        members,
        frozenset(abstract),
        is_enum,
    )


def _role(
    item: ast.FunctionDef | ast.AsyncFunctionDef, marks: set[str], class_name: str
) -> Literal["constructor", "attribute", "factory", "method", "setter", "none"]:
    """Return what a function in a class is for; `marks` are the names of its decorators."""
    if item.name in ("__init__", "__post_init__"):
        return "constructor"
    if marks & {"property", "cached_property"}:
        return "attribute"
    if "setter" in marks:
        return "setter"
    if "deleter" in marks or (item.name.startswith("_") and item.name not in _SPECIAL_METHODS):
        return "none"
    makes_objects = marks & {"classmethod", "staticmethod"} and _makes_objects(item, class_name)
    return "factory" if makes_objects else "method"


def _positional(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Signature:
    return tuple(parameter for parameter in required_parameters(node) if not parameter.keyword_only)


def _makes_objects(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> bool:
    """Return whether a class method or static method calls its class."""
    makers = {name, *(argument.arg for argument in node.args.args[:1])}
    return any(
        isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in makers
        for call in ast.walk(node)
    )


def _is_field(item: ast.AnnAssign) -> bool:
    """Return whether an annotation in a dataclass says that the objects have an attribute."""
    return _last_name(item.annotation) not in ("ClassVar", "InitVar", "KW_ONLY")


def _field_parameter(item: ast.AnnAssign) -> Parameter | None:
    """Return the constructor's parameter for a field of a dataclass; None for a field with a default value."""
    if not isinstance(item.target, ast.Name) or _last_name(item.annotation) in ("ClassVar", "KW_ONLY"):
        return None
    if isinstance(item.value, ast.Call) and _last_name(item.value) in ("field", "ib"):
        options = {keyword.arg: keyword.value for keyword in item.value.keywords}
        made_otherwise = options.keys() & {"default", "default_factory", "factory"} or "init" in options
    else:
        made_otherwise = item.value is not None
    return None if made_otherwise else Parameter(item.target.id, unparse(item.annotation))


def _assigned_names(node: ast.ClassDef) -> tuple[str, ...]:
    """Return the public names to which a class's body assigns values, in order."""
    targets = [target for item in node.body if isinstance(item, ast.Assign) for target in item.targets]
    targets += [item.target for item in node.body if isinstance(item, ast.AnnAssign) and item.value is not None]
    return tuple(target.id for target in targets if isinstance(target, ast.Name) and target.id[0] != "_")


def _assigned_attributes(constructor: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Return the names of the attributes that a constructor assigns."""
    return {
        node.attr
        for node in ast.walk(constructor)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }
