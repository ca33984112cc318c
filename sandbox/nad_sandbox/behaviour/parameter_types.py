"""Infer the type of value that each parameter of a function takes from its type hint, example values, or its name."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass

from nad_sandbox.behaviour.target_function import Parameter
from nad_sandbox.checks.guarded_parse import PARSE_ERRORS, parse_expression

__all__ = ["ValueType", "parameter_types"]


@dataclass(frozen=True)
class ValueType:
    """A type of values that can be generated.

    Attributes:
        name: Name of a built-in type, "count" (a whole number that is not negative), "path" (of a file, mostly one that
            exists), "function", "none" or "union".
        parts: Types of a container's items (of a dict: its keys and values), of a function's arguments, or the members
            of a union.
    """

    name: str
    parts: tuple[ValueType, ...] = ()


_INT, _STR = ValueType("int"), ValueType("str")
_NAMES: dict[ValueType, str] = {
    _STR: "s s1 s2 string string1 string2 str text word sentence line char message pattern key name prefix suffix",
    ValueType(
        "count"
    ): "n k m count size limit index length times year base num number position depth width height rows",
    ValueType("list", (_INT,)): "l lst arr array nums numbers list values items xs data elements prices scores l1 l2 "
    "integers list1 list2 arr1 arr2 sequence operand test_list",
    ValueType("list", (_STR,)): "words strings strs names lines tokens",
    ValueType("list", (ValueType("list", (_INT,)),)): "matrix grid board rectangle mat lists",
    ValueType("list", (ValueType("tuple", (_INT, _INT)),)): "points pairs intervals tuples edges tuple_list",
    ValueType("dict", (_STR, _INT)): "d dict mapping counts dictionary table",
    ValueType("path"): "path filepath file_path filename file_name file infile input_file csv_path json_path",
    ValueType("bool"): "flag reverse verbose strict",
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
    "Path": ValueType("path"),
    "PathLike": ValueType("path"),
}
_ATOMS = {"int", "float", "str", "bool", "bytes", "complex"}
_LISTS = {"list", "List", "Sequence", "Iterable", "Collection", "MutableSequence", "Iterator"}


def parameter_types(parameters: Sequence[Parameter], examples: Sequence[Sequence[object]]) -> list[ValueType]:
    """Return the type of each parameter; one about which nothing is known takes whole numbers.

    The type of a parameter that takes any number of arguments is a list.

    Args:
        parameters: The function's parameters.
        examples: Rows of valid arguments; their types are used for parameters without a type hint.
    """
    value_types = []
    for place, parameter in enumerate(parameters):
        seen = [_type_of_value(row[place]) for row in examples]
        by_name = _BY_NAME.get(parameter.name.lower(), _INT)
        value_type = _from_hint(parameter.annotation) or _common(seen) or by_name
        if parameter.variadic:
            value_type = _list_of_arguments(_from_hint(parameter.annotation), _common(seen), by_name)
        if value_type == _STR and by_name.name == "path" and not seen:
            value_type = by_name
        if value_type == _INT and _counts(parameter, [row[place] for row in examples]):
            value_type = ValueType("count")
        value_types.append(value_type)
    return value_types


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


def _from_hint(annotation: str | None) -> ValueType | None:
    if not annotation:
        return None
    tree = parse_expression(annotation.strip("'\""))
    try:
        return _from_node(tree.body) if tree is not None else None
    except PARSE_ERRORS:  # the annotation is nested too deeply
        return None


def _from_node(node: ast.expr) -> ValueType | None:
    if isinstance(node, ast.Constant) and node.value is None:
        return ValueType("none")
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _union([node.left, node.right])
    if isinstance(node, ast.Subscript):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return _from_generic(ast.unparse(node.value).rpartition(".")[2], inner)
    name = ast.unparse(node).rpartition(".")[2]
    # a bare list says nothing about its items; the examples or the name may
    return ValueType(name) if name in _ATOMS else _BARE.get(name.lower(), _OTHERS.get(name))


def _from_generic(base: str, inner: list[ast.expr]) -> ValueType | None:
    if base in ("Optional", "Union"):
        return _union([*inner, ast.Constant(None)] if base == "Optional" else inner)
    if base == "Callable":
        return ValueType("function", (_INT,) * (len(inner[0].elts) if isinstance(inner[0], ast.List) else 1))
    base = "list" if base in _LISTS else base.lower()
    if base == "tuple" and len(inner) == 2 and ast.unparse(inner[1]) == "...":
        inner = [inner[0]] * 3
    parts = tuple(_from_node(item) or _INT for item in inner)
    if base == "tuple":
        return ValueType("tuple", parts)
    if base in ("dict", "mapping", "defaultdict") and len(parts) == 2:
        return ValueType("dict", parts)
    value_types = {"list": "list", "set": "set", "frozenset": "set", "abstractset": "set"}
    return ValueType(value_types[base], parts[:1]) if base in value_types else None


def _union(nodes: Sequence[ast.expr]) -> ValueType | None:
    parts = [_from_node(node) for node in nodes]
    return ValueType("union", tuple(part for part in parts if part)) if any(parts) else None
