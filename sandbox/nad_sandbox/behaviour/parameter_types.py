"""What kind of value each parameter of a function takes: by its type hint, example values, or its name."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass

from nad_sandbox.behaviour.target_function import Parameter

__all__ = ["Kind", "parameter_kinds"]


@dataclass(frozen=True)
class Kind:
    """A type that values are made of: its name, and the kinds of its parts."""

    name: str
    parts: tuple[Kind, ...] = ()


_INT, _STR = Kind("int"), Kind("str")
_NAMES: dict[Kind, str] = {
    _STR: "s s1 s2 string string1 string2 str text word sentence line char message pattern key name prefix suffix path",
    Kind("count"): "n k m count size limit index length times year base num number position depth width height rows",
    Kind("list", (_INT,)): "l lst arr array nums numbers list values items xs data elements prices scores l1 l2 "
    "integers list1 list2 arr1 arr2 sequence operand test_list",
    Kind("list", (_STR,)): "words strings strs names lines tokens",
    Kind("list", (Kind("list", (_INT,)),)): "matrix grid board rectangle mat lists",
    Kind("list", (Kind("tuple", (_INT, _INT)),)): "points pairs intervals tuples edges tuple_list",
    Kind("dict", (_STR, _INT)): "d dict mapping counts dictionary table",
    Kind("bool"): "flag reverse verbose strict",
    Kind("tuple", (_INT, _INT)): "interval interval1 interval2 point pair tup test_tup t",
}
_BY_NAME = {name: kind for kind, names in _NAMES.items() for name in names.split()}
_ATOMS = {"int", "float", "str", "bool", "bytes", "complex"}
_LISTS = {"list", "List", "Sequence", "Iterable", "Collection", "MutableSequence", "Iterator"}


def parameter_kinds(parameters: Sequence[Parameter], examples: Sequence[Sequence[object]]) -> list[Kind]:
    """The kind of each parameter; whole numbers where nothing is known.

    Args:
        parameters: what the function takes.
        examples: rows of arguments that are known to be good; their types count where there is no hint.
    """
    kinds = []
    for place, parameter in enumerate(parameters):
        seen = [_kind_of(row[place]) for row in examples]
        kind = _from_hint(parameter.annotation) or _common(seen) or _BY_NAME.get(parameter.name.lower(), _INT)
        if kind == _INT and _counts(parameter, [row[place] for row in examples]):
            kind = Kind("count")
        kinds.append(kind)
    return kinds


def _counts(parameter: Parameter, values: Sequence[object]) -> bool:
    """Whether a whole number is a count: never negative in the examples, or named so where there are none."""
    if values:
        return all(isinstance(value, int) and value >= 0 for value in values)
    return _BY_NAME.get(parameter.name.lower()) == Kind("count")


def _common(kinds: Sequence[Kind | None]) -> Kind | None:
    """The kind of most examples; of a list that is empty in one of them, the kind that says more."""
    known = [kind for kind in kinds if kind is not None]
    return max(known, key=lambda kind: (known.count(kind), str(kind))) if known else None


def _kind_of(value: object) -> Kind | None:
    name = type(value).__name__
    if name in _ATOMS:
        return Kind(name)
    if isinstance(value, list | set | frozenset):
        inner = _common([_kind_of(item) for item in value])
        return Kind("list" if isinstance(value, list) else "set", (inner,)) if inner else None
    if isinstance(value, tuple):
        parts = [_kind_of(item) for item in value]
        return Kind("tuple", tuple(part for part in parts if part)) if value and all(parts) else None
    if isinstance(value, dict):
        key, item = _common([_kind_of(k) for k in value]), _common([_kind_of(v) for v in value.values()])
        return Kind("dict", (key, item)) if key and item else None
    return None


def _from_hint(annotation: str | None) -> Kind | None:
    if not annotation:
        return None
    try:
        return _from_node(ast.parse(annotation.strip("'\""), mode="eval").body)
    except (SyntaxError, ValueError):
        return None


def _from_node(node: ast.expr) -> Kind | None:
    if isinstance(node, ast.Constant) and node.value is None:
        return Kind("none")
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _union([node.left, node.right])
    if isinstance(node, ast.Subscript):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return _from_generic(ast.unparse(node.value).rpartition(".")[2], inner)
    name = ast.unparse(node).rpartition(".")[2]
    bare = {"set": Kind("set", (_INT,)), "dict": Kind("dict", (_STR, _INT)), "tuple": Kind("tuple", (_INT, _INT))}
    # a bare list says nothing of its items: the examples or the name may
    return Kind(name) if name in _ATOMS else bare.get(name.lower())


def _from_generic(base: str, inner: list[ast.expr]) -> Kind | None:
    if base in ("Optional", "Union"):
        return _union([*inner, ast.Constant(None)] if base == "Optional" else inner)
    base = "list" if base in _LISTS else base.lower()
    if base == "tuple" and len(inner) == 2 and ast.unparse(inner[1]) == "...":
        inner = [inner[0]] * 3
    parts = tuple(_from_node(item) or _INT for item in inner)
    if base == "tuple":
        return Kind("tuple", parts)
    if base in ("dict", "mapping", "defaultdict") and len(parts) == 2:
        return Kind("dict", parts)
    kinds = {"list": "list", "set": "set", "frozenset": "set", "abstractset": "set"}
    return Kind(kinds[base], parts[:1]) if base in kinds else None


def _union(nodes: Sequence[ast.expr]) -> Kind | None:
    parts = [_from_node(node) for node in nodes]
    return Kind("union", tuple(part for part in parts if part)) if any(parts) else None
