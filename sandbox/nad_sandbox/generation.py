"""Values for a function's parameters, from type hints, example values and names: boundary values first."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nad_sandbox.base import SandboxUnavailableError
from nad_sandbox.targets import Parameter

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["Kind", "generate_arguments"]


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
_BOUNDARIES: dict[str, list[Any]] = {
    "int": [0, 1, -1, 2, 10, 7, -8, 100],
    "count": [1, 0, 2, 3, 10, 5, 7, 12],
    "float": [0.0, 1.0, -1.5, 0.1, 2.75, 100.0],
    "str": ["", "a", "ab", "aba", "Hello World", "a b  c", "AbC123", "zyx,wv!"],
    "bool": [True, False],
    "bytes": [b"", b"a", b"ab\x00"],
    "complex": [0j, 1j],
    "none": [None],
}


def generate_arguments(
    parameters: Sequence[Parameter], examples: Sequence[Sequence[object]], count: int
) -> list[tuple[object, ...]]:
    """Rows of arguments: half of boundary values, half drawn by hypothesis; the same ones each time.

    Args:
        parameters: what the function takes.
        examples: rows of arguments that are known to be good; their types count where there is no hint.
        count: how many rows.

    Raises:
        SandboxUnavailableError: hypothesis is not installed.
    """
    if not parameters:
        return [()]
    kinds = []
    for place, parameter in enumerate(parameters):
        seen = [_kind_of(row[place]) for row in examples]
        kind = _from_hint(parameter.annotation) or _common(seen) or _BY_NAME.get(parameter.name.lower(), _INT)
        if kind == _INT and _counts(parameter, [row[place] for row in examples]):
            kind = Kind("count")
        kinds.append(kind)
    columns = [_boundaries(kind) for kind in kinds]
    # later columns are shifted against the first, so that rows are not all-smallest, all-largest
    rows = [
        tuple(column[(j * (i + 1) + i * (i + j // len(column))) % len(column)] for i, column in enumerate(columns))
        for j in range(max(map(len, columns)) * (1 + (len(columns) > 1)))
    ]
    boundaries = list({repr(row): row for row in rows}.values())
    drawn = _drawn(kinds, count)
    half = boundaries[: max(count - len(drawn), (count + 1) // 2)]
    return [*half, *drawn][:count]


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


def _boundaries(kind: Kind) -> list[Any]:
    if kind.name in _BOUNDARIES:
        return _BOUNDARIES[kind.name]
    inner = [_boundaries(part) for part in kind.parts]
    if kind.name == "union":
        return [value for values in inner for value in values[:3]]
    if kind.name == "tuple":
        return [tuple(values[(j + i) % len(values)] for i, values in enumerate(inner)) for j in range(4)]
    if kind.name == "dict":
        keys, values = inner
        pairs = list(zip(keys, (values * len(keys))[: len(keys)], strict=True))
        return [{}, dict(pairs[1:2]), dict(pairs[1:4])]
    some = (inner[0] * 5)[:8]
    lists = [[], some[1:2], some[1:4], [some[1], some[1]], some[:5][::-1], some[2:8]]
    return [set(values) for values in lists] if kind.name == "set" else lists


def _strategy(kind: Kind) -> SearchStrategy[Any]:
    from hypothesis import strategies as st

    letters = "abcdefgxyzABC0123456789 .,()-"
    atoms: dict[str, SearchStrategy[Any]] = {
        "int": st.integers(-60, 200),
        "count": st.integers(0, 40),
        "float": st.floats(-100, 100, width=16),
        "str": st.text(letters, max_size=14),
        "bool": st.booleans(),
        "bytes": st.binary(max_size=6),
        "complex": st.complex_numbers(max_magnitude=10, allow_nan=False),
        "none": st.none(),
    }
    if kind.name in atoms:
        return atoms[kind.name]
    inner = [_strategy(part) for part in kind.parts]
    if kind.name == "union":
        return st.one_of(inner)
    if kind.name == "tuple":
        return st.tuples(*inner)
    if kind.name == "dict":
        return st.dictionaries(inner[0], inner[1], max_size=4)
    return st.sets(inner[0], max_size=6) if kind.name == "set" else st.lists(inner[0], max_size=8)


def _drawn(kinds: Sequence[Kind], count: int) -> list[tuple[object, ...]]:
    """Rows that hypothesis draws; the later half of twice as many, since it begins with the simplest."""
    try:
        from hypothesis import HealthCheck, Phase, given, settings, strategies
    except ImportError as error:
        raise SandboxUnavailableError(
            "inputs are generated with the package hypothesis; install it with `pip install nad-agents[sandbox]`"
        ) from error
    rows: dict[str, tuple[object, ...]] = {}

    @settings(
        max_examples=2 * count + 2,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategies.tuples(*map(_strategy, kinds)))
    def draw(row: tuple[object, ...]) -> None:
        rows[repr(row)] = row

    draw()
    return list(rows.values())[::-1][:count]
