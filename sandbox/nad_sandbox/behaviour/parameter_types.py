"""Infer the type of value that each parameter of a function takes from its type hint, example values, or its name."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nad_sandbox.behaviour.signature import Parameter
from nad_sandbox.behaviour.standard_types import STANDARD_TYPES
from nad_sandbox.checks.guarded_parse import PARSE_ERRORS, parse_expression, unparse

__all__ = ["OwnTypes", "ValueType", "is_function", "parameter_types"]

OwnTypes = Mapping[str, tuple[str, ...]]
"""Source texts of values of the program's own types, by the type's name; see `nad_sandbox.behaviour.own_types`."""


@dataclass(frozen=True)
class ValueType:
    """A type of values that can be generated.

    Attributes:
        name: Name of a built-in type, "count" (a whole number that is not negative), "path" (of a file, mostly one that
            exists), "function", "async function", "callback" (called for its effect), "choice" (of source texts),
            "none" or "union".
        parts: Types of a container's items (of a dict: its keys and values), of a function's arguments, or the members
            of a union.
        options: Source texts of the values of a choice.
    """

    name: str
    parts: tuple[ValueType, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def is_function(self) -> bool:
        """Whether the values are functions."""
        return self.name in ("function", "async function", "callback")


_INT, _STR = ValueType("int"), ValueType("str")
_NAMES: dict[ValueType, str] = {
    _STR: "s s1 s2 string string1 string2 str text word sentence line char message pattern key name prefix suffix sep "
    "separator delimiter delim title subject owner author city email label url username password letter letters "
    "input_string input_str content event topic command description first_name last_name reason category host symbol",
    ValueType(
        "count"
    ): "n k m count size limit index length times year base num number position depth width height rows "
    "capacity maxsize max_size retries max_retries attempts max_attempts",
    ValueType("list", (_INT,)): "l lst arr array nums numbers list values items xs data elements prices scores l1 l2 "
    "integers list1 list2 arr1 arr2 sequence operand test_list",
    ValueType("list", (_STR,)): "words strings strs names lines tokens urls sentences messages",
    ValueType("float"): "price balance radius rate temperature celsius fahrenheit salary weight",
    ValueType("list", (ValueType("list", (_INT,)),)): "matrix grid board rectangle mat lists",
    ValueType("list", (ValueType("tuple", (_INT, _INT)),)): "points pairs intervals tuples edges tuple_list",
    ValueType("dict", (_STR, _INT)): "d dict mapping counts dictionary table",
    ValueType("path"): "path filepath file_path filename file_name file infile input_file csv_path json_path",
    ValueType("bool"): "flag reverse verbose strict",
    ValueType(
        "function", (_INT,)
    ): "func fn f function wrapped callback handler predicate listener observer action mapper condition transform hook "
    "fetch",
    ValueType("choice", options=STANDARD_TYPES["TextIO"]): "stream fileobj file_object file_obj fp file_handle",
    ValueType("choice", options=STANDARD_TYPES["date"]): "date start_date end_date birth_date birthday birthdate",
    ValueType("choice", options=STANDARD_TYPES["datetime"]): "dt timestamp_dt",
    ValueType("list", (ValueType("function", (_INT,)),)): "fs funcs fns functions callables callbacks",
    ValueType("tuple", (_INT, _INT)): "interval interval1 interval2 point pair tup test_tup t",
}
_BY_NAME = {name: value_type for value_type, names in _NAMES.items() for name in names.split()}
_BARE = {
    "set": ValueType("set", (_INT,)),
    "dict": ValueType("dict", (_STR, _INT)),
    "tuple": ValueType("tuple", (_INT, _INT)),
}
_OTHERS = {
    "Callable": ValueType("function", (_INT,)),
    **{name: ValueType("choice", options=options) for name, options in STANDARD_TYPES.items()},
}
_ATOMS = {"int", "float", "str", "bool", "bytes", "complex"}
_CALLBACK = re.compile(r"callback|handler|listener|observer|subscriber|hook|action|^on_|^cb$")
_COLUMNS = {"cols", "columns", "n_cols", "num_cols", "width"}
"""Names of parameters beside which `rows` is a number; elsewhere it means the rows themselves."""
_AWAITED = ("Awaitable", "Coroutine")
_LISTS = {"list", "List", "Sequence", "Iterable", "Collection", "MutableSequence", "Iterator"}


def parameter_types(
    parameters: Sequence[Parameter], examples: Sequence[Sequence[object]], own: OwnTypes | None = None
) -> list[ValueType]:
    """Return the type of each parameter; one about which nothing is known takes whole numbers.

    The type of a parameter that takes any number of arguments is a list.

    Args:
        parameters: The function's parameters.
        examples: Rows of valid arguments; their types are used for parameters without a type hint.
        own: Values of the program's own types.
    """
    reader = _HintReader(own or {})
    value_types = []
    for place, parameter in enumerate(parameters):
        seen = [_type_of_value(row[place]) for row in examples]
        by_name = reader.by_name(parameter.name.lower())
        hint = reader.hinted(parameter.annotation)
        value_type = hint or _common(seen) or by_name
        if parameter.variadic:
            value_type = _list_of_arguments(hint, _common(seen), by_name)
        if value_type == _STR and by_name.name == "path" and not seen:
            value_type = by_name
        if parameter.name == "rows" and not (hint or seen or _COLUMNS & {one.name for one in parameters}):
            value_type = ValueType("list", (ValueType("list", (_INT,)),))
        if value_type.name == "function" and _CALLBACK.search(parameter.name.lower()):
            value_type = ValueType("callback", value_type.parts)
        if value_type == _INT and _counts(parameter, [row[place] for row in examples]):
            value_type = ValueType("count")
        value_types.append(value_type)
    return value_types


def is_function(parameter: Parameter) -> bool:
    """Return whether a parameter takes a function, by its type hint or its name."""
    [value_type] = parameter_types([parameter], [])
    return value_type.is_function


def _list_of_arguments(hint: ValueType | None, seen: ValueType | None, by_name: ValueType) -> ValueType:
    """Return the type of the arguments of ``*args``; a name such as `words` stands for all of them together."""
    if hint is None and seen is not None:
        return seen
    if hint is None and by_name.name == "list":
        return by_name
    return ValueType("list", (hint or by_name,))


def _counts(parameter: Parameter, values: Sequence[object]) -> bool:
    """Return whether a whole number is a count: it is never negative in the examples, or its name says so."""
    if values:
        return all(isinstance(value, int) and value >= 0 for value in values)
    return _BY_NAME.get(parameter.name.lower()) == ValueType("count")


def _common(value_types: Sequence[ValueType | None]) -> ValueType | None:
    """Return the most frequent known type of the examples; None when no type is known."""
    known = [value_type for value_type in value_types if value_type is not None]
    return max(known, key=lambda value_type: (known.count(value_type), str(value_type))) if known else None


def _type_of_value(value: object) -> ValueType | None:
    name = type(value).__name__
    if name in _ATOMS:
        return ValueType(name)
    if isinstance(value, list | set | frozenset):
        inner = _common([_type_of_value(item) for item in value])
        return ValueType("list" if isinstance(value, list) else "set", (inner,)) if inner else None
    if isinstance(value, tuple):
        parts = [_type_of_value(item) for item in value]
        return ValueType("tuple", tuple(part for part in parts if part)) if value and all(parts) else None
    if isinstance(value, dict):
        key, item = _common([_type_of_value(k) for k in value]), _common([_type_of_value(v) for v in value.values()])
        return ValueType("dict", (key, item)) if key and item else None
    return None


class _HintReader:
    """Reads type hints.

    Args:
        own: Values of the program's own types, which come before types of the same name.
    """

    def __init__(self, own: OwnTypes) -> None:
        self.own = own

    def by_name(self, name: str) -> ValueType:
        """Return the type that a parameter's name suggests."""
        if name in self.own:
            return ValueType("choice", options=self.own[name])
        # the plural of a type's name
        if name.endswith("s") and name[:-1] in self.own:
            return ValueType("list", (ValueType("choice", options=self.own[name[:-1]]),))
        return _BY_NAME.get(name, _INT)

    def hinted(self, annotation: str | None) -> ValueType | None:
        """Return the type of a type hint; None if the hint says nothing."""
        if not annotation:
            return None
        tree = parse_expression(annotation.strip("'\""))
        try:
            return self._from_node(tree.body) if tree is not None else None
        except PARSE_ERRORS:  # the annotation is nested too deeply
            return None

    def _from_node(self, node: ast.expr) -> ValueType | None:
        if isinstance(node, ast.Constant):
            return ValueType("none") if node.value is None else self.hinted(str(node.value))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return self._union([node.left, node.right])
        if isinstance(node, ast.Subscript):
            inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            return self._from_generic(ast.unparse(node.value).rpartition(".")[2], inner)
        name = ast.unparse(node).rpartition(".")[2]
        if name in self.own:
            return ValueType("choice", options=self.own[name])
        # a bare list says nothing about its items; the examples or the name may
        return ValueType(name) if name in _ATOMS else _OTHERS.get(name, _BARE.get(name.lower()))

    def _from_generic(self, base: str, inner: list[ast.expr]) -> ValueType | None:
        if base in self.own:
            return ValueType("choice", options=self.own[base])
        if base in ("Optional", "Union"):
            return self._union([*inner, ast.Constant(None)] if base == "Optional" else inner)
        if base in ("Annotated", "Final", "ClassVar", "Type"):
            return self._from_node(inner[0])
        if base == "Literal":
            return ValueType("choice", options=tuple(unparse(item) or "None" for item in inner))
        if base in ("Callable", "AsyncCallable"):
            count = len(inner[0].elts) if isinstance(inner[0], ast.List) else 1
            awaited = base != "Callable" or any(name in ast.unparse(inner[-1]) for name in _AWAITED)
            return ValueType("async function" if awaited else "function", (_INT,) * count)
        return self._from_container("list" if base in _LISTS else base.lower(), inner)

    def _from_container(self, base: str, inner: list[ast.expr]) -> ValueType | None:
        if base == "tuple" and len(inner) == 2 and ast.unparse(inner[1]) == "...":
            inner = [inner[0]] * 3
        parts = tuple(self._from_node(item) or _INT for item in inner)
        if base == "tuple":
            return ValueType("tuple", parts)
        if base in ("dict", "mapping", "mutablemapping", "defaultdict", "ordereddict") and len(parts) == 2:
            return ValueType("dict", parts)
        value_types = {"list": "list", "set": "set", "frozenset": "frozenset", "abstractset": "set", "deque": "list"}
        if base in value_types:
            return ValueType(value_types[base], parts[:1])
        # a counter, a file or a path with type parameters
        return next((found for name, found in _OTHERS.items() if name.lower() == base), None)

    def _union(self, nodes: Sequence[ast.expr]) -> ValueType | None:
        parts = [self._from_node(node) for node in nodes]
        return ValueType("union", tuple(part for part in parts if part)) if any(parts) else None
