"""Read a class from a program's source: its constructors, methods, public state, and what its objects support."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from nad_sandbox.behaviour.class_fields import class_fields, last_name
from nad_sandbox.behaviour.decorators import class_decorator_parameters, decorator_parameters
from nad_sandbox.behaviour.signature import Parameter, Signature, all_parameters
from nad_sandbox.behaviour.special_methods import (
    BUILT_IN_BASES,
    CALLED,
    VIEWS,
    context_kinds,
    exception_class,
    operators_of,
)

__all__ = ["ClassDefinition", "ClassKind", "class_definitions"]

_NO_OBJECTS = {"Solution", "Protocol", "TypedDict", "TestCase"}
"""Names of classes whose objects are not observed, neither their own nor those of a derived class."""
_NO_RELATION = {"ABC", "Generic", "object", "Enum", "IntEnum", "StrEnum", "Flag", "IntFlag", "NamedTuple", "type"}
"""Names of bases of which nobody asks whether an object belongs to them."""
_ENUMS = {"Enum", "IntEnum", "StrEnum", "Flag", "IntFlag"}
_OF_MEMBERS = frozenset({"name", "value"})
_CONTEXTS = {"contextmanager": "with", "asynccontextmanager": "async with"}

ClassKind = Literal["class", "exception", "descriptor", "metaclass", "base", "context function", "decorator"]
"""How objects are made: by calling the class or the function, as an attribute of another class (a descriptor), as a
class (a metaclass), as a derived class (a base that registers these), or by decorating a function."""


@dataclass(frozen=True)
class ClassDefinition:
    """A class as one program defines it, with what it inherits from other classes of the program.

    A function that makes context managers, and a decorator, are described in the same way.

    Attributes:
        constructor: The constructor's parameters; those with a default value come last.
        methods: The public methods, and the special ones that take arguments, with their parameters.
        factories: The class methods and static methods that make objects, with their parameters.
        setters: The properties that can be assigned, with one parameter, and the first field of a frozen dataclass.
        attributes: The public attributes and properties.
        views: Built-in functions and unary operators that accept the objects, such as `str` or `-`.
        operators: Operators that the objects support, such as `it + other`.
        contexts: The statements that the objects can be used in: `with`, `async with`.
        ancestors: Names of the classes from which it derives.
        members: The members of an enumeration; empty for other classes.
        abstract: Names of the methods that a derived class has to define.
        enumeration: Whether the members are the only objects.
        kind: How objects are made.
    """

    constructor: Signature = ()
    methods: Mapping[str, Signature] = field(default_factory=dict)
    factories: Mapping[str, Signature] = field(default_factory=dict)
    setters: Mapping[str, Signature] = field(default_factory=dict)
    attributes: frozenset[str] = frozenset()
    views: frozenset[str] = frozenset()
    operators: frozenset[str] = frozenset()
    contexts: frozenset[str] = frozenset()
    ancestors: frozenset[str] = frozenset()
    members: tuple[str, ...] = ()
    abstract: frozenset[str] = frozenset()
    enumeration: bool = False
    kind: ClassKind = "class"

    @property
    def observable(self) -> bool:
        """Whether the class has objects, and something to see on them."""
        if self.abstract or self.enumeration:
            return bool(self.members)
        seen = self.methods or self.attributes or self.views or self.operators or self.contexts or self.setters
        return bool(seen) or self.kind != "class"


def class_definitions(body: Iterable[ast.stmt]) -> dict[str, ClassDefinition]:
    """Return the classes among a program's statements whose objects can be observed, in the order of the source."""
    found: dict[str, ClassDefinition] = {}
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            made = _called_for(node.value)
            if made is not None:
                found[node.targets[0].id] = made
        elif isinstance(node, ast.ClassDef):
            bases = [last_name(base) for base in node.bases]
            if not {node.name, *bases} & _NO_OBJECTS:
                found[node.name] = _described(node, bases, {base: found[base] for base in bases if base in found})
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in map(last_name, node.decorator_list):
                if decorator in _CONTEXTS:
                    statements = frozenset({_CONTEXTS[decorator]})
                    found[node.name] = ClassDefinition(
                        all_parameters(node), contexts=statements, kind="context function"
                    )
            given = decorator_parameters(node)
            if given is not None:
                kept = frozenset(_assigned_attributes(node, of_object=False))
                found[node.name] = ClassDefinition(given, attributes=kept, kind="decorator")
    return found


def _called_for(node: ast.expr) -> ClassDefinition | None:
    """Return the class that a call of `namedtuple`, `NamedTuple` or `Enum` makes; None for other expressions."""
    if not (isinstance(node, ast.Call) and len(node.args) > 1):
        return None
    kind, names = last_name(node), _names(node.args[1])
    if kind in _ENUMS:
        return ClassDefinition(attributes=_OF_MEMBERS, members=names, enumeration=True)
    if kind in ("namedtuple", "NamedTuple", "make_class", "make_dataclass"):
        return ClassDefinition(
            tuple(map(Parameter, names)), attributes=frozenset(names), operators=frozenset({"it == other"})
        )
    if kind == "type" and len(node.args) == 3 and isinstance(node.args[1], ast.Tuple):
        bases = [last_name(base) for base in node.args[1].elts]
        if any(map(exception_class, bases)):
            return _plain_exception(frozenset(bases))
    return None


def _plain_exception(ancestors: frozenset[str]) -> ClassDefinition:
    return ClassDefinition((Parameter("message", "str"),), ancestors=ancestors, kind="exception")


def _names(node: ast.expr) -> tuple[str, ...]:
    """Return the names in a text, or in a list of names or of pairs of a name and something else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return tuple(node.value.replace(",", " ").split())
    items = node.elts if isinstance(node, ast.List | ast.Tuple) else []
    if isinstance(node, ast.Dict):
        items = [key for key in node.keys if key is not None]
    first = [item.elts[0] if isinstance(item, ast.Tuple) and item.elts else item for item in items]
    return tuple(item.value for item in first if isinstance(item, ast.Constant) and isinstance(item.value, str))


def _inherited(bases: list[str], known: Mapping[str, ClassDefinition]) -> ClassDefinition:
    """Return what a class without a body of its own has from its bases, of which `known` are those of the program."""
    inherited = list(known.values())
    # another program may know a library's class by another name, or not import it
    related = {base for base in bases if base in known or hasattr(builtins, base)}
    of_library = {name: given for base in bases for name, given in BUILT_IN_BASES.get(base, {}).items()}
    made = ClassDefinition(
        constructor=next((base.constructor for base in inherited if base.constructor), ()),
        methods=of_library | {name: given for base in reversed(inherited) for name, given in base.methods.items()},
        factories={name: given for base in reversed(inherited) for name, given in base.factories.items()},
        setters={name: given for base in reversed(inherited) for name, given in base.setters.items()},
        attributes=frozenset(name for base in inherited for name in base.attributes),
        views=frozenset(name for base in inherited for name in base.views) | ({"len", "list"} if of_library else set()),
        operators=frozenset(name for base in inherited for name in base.operators),
        contexts=frozenset(name for base in inherited for name in base.contexts),
        ancestors=frozenset({*related, *(name for base in inherited for name in base.ancestors)} - _NO_RELATION),
        abstract=frozenset(name for base in inherited for name in base.abstract),
        enumeration=bool(_ENUMS & set(bases)) or any(base.enumeration for base in inherited),
        kind=next((base.kind for base in inherited if base.kind not in ("class", "base")), "class"),
    )
    if any(map(exception_class, bases)) and made.kind == "class":
        plain = _plain_exception(made.ancestors)
        return replace(made, kind="exception", constructor=made.constructor or plain.constructor)
    return replace(made, kind="metaclass") if "type" in bases else made


def _described(node: ast.ClassDef, bases: list[str], known: Mapping[str, ClassDefinition]) -> ClassDefinition:
    """Return what a class defines and inherits."""
    base = _inherited(bases, known)
    defined = [item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)]
    functions = {item.name: item for item in defined}
    fields = class_fields(node, bases, any(one.kind == "class" and _of_fields(one) for one in known.values()))
    methods, factories, setters = dict(base.methods), dict(base.factories), dict(base.setters)
    constructor, attributes = base.constructor, set(base.attributes)
    operators = set(base.operators) | operators_of(functions, node.name)
    members = _assigned_names(node) if base.enumeration else ()
    if base.enumeration:
        attributes |= _OF_MEMBERS
    elif fields is not None:
        before = () if base.kind == "exception" and not known else constructor
        own = {parameter.name for parameter in fields.parameters}
        joined = (*(one for one in before if one.name not in own), *fields.parameters)
        constructor = tuple(sorted(joined, key=lambda parameter: parameter.optional))
        attributes |= fields.attributes
        if fields.frozen and fields.attributes and constructor:
            first = next((one for one in constructor if one.name in fields.attributes), None)
            setters |= {first.name: (replace(first, keyword_only=False, optional=False),)} if first else {}
        operators |= {"it == other"} | ({"it < other"} if fields.ordered else set())
    else:
        attributes |= set(_assigned_names(node))
    abstract = set(base.abstract)
    for item in defined:
        marks = {last_name(decorator) for decorator in item.decorator_list}
        abstract.discard(item.name)
        if "abstractmethod" in marks:
            abstract.add(item.name)
        given = all_parameters(item)[0 if "staticmethod" in marks else 1 :]
        role = _role(item, marks, node.name)
        if role == "constructor":
            constructor = given if item.name == "__init__" or fields is None else constructor
            attributes |= _assigned_attributes(item)
        elif role == "attribute":
            attributes.add(item.name)
        elif role != "none":
            {"method": methods, "factory": factories, "setter": setters}[role][item.name] = given
    views = base.views | {VIEWS[name] for name in functions.keys() & VIEWS.keys()}
    if functions.keys() & {"__new__", "__hash__"}:
        operators |= {"it is other" for name in functions if name == "__new__"}
        operators |= {"{it, other}" for name in functions if name == "__hash__"}
    decorated = class_decorator_parameters(functions)
    if decorated is not None:
        kept = frozenset(name for name in attributes if name[0] != "_") - {one.name for one in constructor}
        return ClassDefinition(decorated, attributes=kept, kind="decorator")
    metaclasses = [last_name(keyword.value) for keyword in node.keywords if keyword.arg == "metaclass"]
    operators |= {"it is other" for name in metaclasses if name not in ("ABCMeta", "EnumMeta")}
    return replace(
        base,
        constructor=constructor,
        methods=methods,
        factories=factories,
        setters=setters,
        attributes=frozenset(name for name in attributes if name[0] != "_" and name not in methods),
        views=frozenset(views),
        operators=frozenset(operators),
        contexts=base.contexts | context_kinds(functions),
        members=members,
        abstract=frozenset(abstract),
        kind=_kind(base, functions),
    )


def _of_fields(definition: ClassDefinition) -> bool:
    """Return whether a class's constructor takes its attributes, as that of a model does."""
    names = {parameter.name for parameter in definition.constructor if parameter.keyword_only}
    return bool(names) and names <= definition.attributes


def _kind(base: ClassDefinition, functions: Mapping[str, object]) -> ClassKind:
    if base.kind != "class":
        return base.kind
    if functions.keys() & {"__get__", "__set__"}:
        return "descriptor"
    return "base" if "__init_subclass__" in functions else "class"


def _role(
    item: ast.FunctionDef | ast.AsyncFunctionDef, marks: set[str], class_name: str
) -> Literal["constructor", "attribute", "factory", "method", "setter", "none"]:
    """Return what a function in a class is for; `marks` are the names of its decorators."""
    if item.name in ("__init__", "__post_init__", "__attrs_post_init__"):
        return "constructor"
    if marks & {"property", "cached_property", "computed_field"}:
        return "attribute"
    if "setter" in marks:
        return "setter"
    if marks & {"deleter", "validator", "field_validator", "model_validator", "root_validator", "field_serializer"}:
        return "none"
    if item.name.startswith("_") and item.name not in CALLED:
        return "none"
    makes_objects = marks & {"classmethod", "staticmethod"} and _makes_objects(item, class_name)
    return "factory" if makes_objects else "method"


def _makes_objects(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> bool:
    """Return whether a class method or static method calls its class."""
    makers = {name, *(argument.arg for argument in node.args.args[:1])}
    return any(
        isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in makers
        for call in ast.walk(node)
    )


def _assigned_names(node: ast.ClassDef) -> tuple[str, ...]:
    """Return the public names to which a class's body assigns values, in order."""
    targets = [target for item in node.body if isinstance(item, ast.Assign) for target in item.targets]
    targets += [item.target for item in node.body if isinstance(item, ast.AnnAssign) and item.value is not None]
    return tuple(target.id for target in targets if isinstance(target, ast.Name) and target.id[0] != "_")


def _assigned_attributes(constructor: ast.FunctionDef | ast.AsyncFunctionDef, of_object: bool = True) -> set[str]:
    """Return the names of the attributes that a constructor assigns, or a decorator to the function that it makes."""
    return {
        node.attr
        for node in ast.walk(constructor)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and (node.value.id == "self") is of_object
    }
