"""Generate values for a function's parameters: boundary values first, then values drawn by hypothesis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nad_sandbox.base import SandboxUnavailableError
from nad_sandbox.behaviour.file_driver import FILES
from nad_sandbox.behaviour.parameter_types import ValueType

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["generate_arguments"]

_BOUNDARIES: dict[str, list[Any]] = {
    "int": [0, 1, -1, 2, 10, 7, -8, 100],
    "count": [1, 0, 2, 3, 10, 5, 7, 12],
    "float": [0.0, 1.0, -1.5, 0.1, 2.75, 100.0],
    "str": ["", "a", "ab", "aba", "Hello World", "a b  c", "AbC123", "zyx,wv!"],
    "bool": [True, False],
    "bytes": [b"", b"a", b"ab\x00"],
    "complex": [0j, 1j],
    "none": [None],
    "path": [*FILES, "missing.txt", "folder/photo.tar.gz"],
}
_FUNCTIONS: tuple[tuple[str, ...], ...] = (
    ("lambda: 1", "lambda: 0", "lambda: 'a'"),
    ("lambda x: x * 2", "lambda x: not x", "lambda x: x", "lambda x: [x]", "lambda x: x + x"),
    ("lambda a, b: a + b", "lambda a, b: b", "lambda a, b: a == b", "lambda a, b: [a, b]"),
    ("lambda *args: args[0]", "lambda *args: args[-1]", "lambda *args: args"),
)
"""Functions that take values of most types, by their number of arguments; the last take more."""


@dataclass(frozen=True)
class Source:
    """A value that is known by its source text.

    Attributes:
        text: The source text.
    """

    text: str

    def __repr__(self) -> str:
        return self.text


def generate_arguments(value_types: Sequence[ValueType], count: int) -> list[tuple[object, ...]]:
    """Return rows of arguments, half of them boundary values and half drawn by hypothesis; the result is reproducible.

    Args:
        value_types: Types of the parameters.
        count: Largest number of rows to return.

    Raises:
        SandboxUnavailableError: The package hypothesis is not installed.
    """
    if not value_types:
        return [()]
    columns = [_boundaries(value_type) for value_type in value_types]
    # later columns are shifted against the first, so that no row combines all smallest or all largest values
    rows = [
        tuple(column[(j * (i + 1) + i * (i + j // len(column))) % len(column)] for i, column in enumerate(columns))
        for j in range(max(map(len, columns)) * (1 + (len(columns) > 1)))
    ]
    boundaries = list({repr(row): row for row in rows}.values())
    drawn = _drawn(value_types, count)
    half = boundaries[: max(count - len(drawn), (count + 1) // 2)]
    return [*half, *drawn][:count]


def _boundaries(value_type: ValueType) -> list[Any]:
    if value_type.name in _BOUNDARIES:
        return _BOUNDARIES[value_type.name]
    if value_type.name == "choice":
        return [Source(text) for text in value_type.options]
    if value_type.name == "callback":
        return [Source("noted"), Source("noted.second"), *_boundaries(ValueType("function", value_type.parts))[:2]]
    if value_type.name in ("function", "async function"):
        texts = _FUNCTIONS[min(len(value_type.parts), len(_FUNCTIONS) - 1)]
        return [Source(text if value_type.name == "function" else f"async_function({text})") for text in texts]
    return _boundaries_of_container(value_type, [_boundaries(part) for part in value_type.parts])


def _boundaries_of_container(value_type: ValueType, inner: list[list[Any]]) -> list[Any]:
    """Return boundary values of a union or a container from those of its parts."""
    if value_type.name == "union":
        return [value for values in inner for value in values[:3]]
    if value_type.name == "tuple":
        return [tuple(values[(j + i) % len(values)] for i, values in enumerate(inner)) for j in range(4)]
    if value_type.name == "dict":
        keys, values = inner
        pairs = list(zip(map(_hashable, keys), (values * len(keys))[: len(keys)], strict=True))
        return [{}, dict(pairs[1:2]), dict(pairs[1:4])]
    some = (inner[0] * 5)[:8]
    lists = [[], some[1:2], some[1:4], [some[1], some[1]], some[:5][::-1], some[2:8]]
    if value_type.name == "list":
        return lists
    made = [set(map(_hashable, values)) for values in lists]
    return made if value_type.name == "set" else [_frozen(values) for values in made]


def _hashable(value: object) -> object:
    """Return a value that a set or a dictionary can hold."""
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    return _frozen(value) if isinstance(value, set) else str(value) if isinstance(value, dict) else value


def _frozen(values: set[object]) -> Source:
    return Source(f"frozenset({values!r})" if values else "frozenset()")


def _strategy(value_type: ValueType) -> SearchStrategy[Any]:
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
    if value_type.name in atoms:
        return atoms[value_type.name]
    if value_type.name in ("function", "async function", "callback", "path", "choice", "frozenset"):
        return st.sampled_from(_boundaries(value_type))
    inner = [_strategy(part) for part in value_type.parts]
    if value_type.name == "union":
        return st.one_of(inner)
    if value_type.name == "tuple":
        return st.tuples(*inner)
    if value_type.name == "dict":
        return st.dictionaries(inner[0].map(_hashable), inner[1], max_size=4)
    return st.sets(inner[0].map(_hashable), max_size=6) if value_type.name == "set" else st.lists(inner[0], max_size=8)


def _drawn(value_types: Sequence[ValueType], count: int) -> list[tuple[object, ...]]:
    """Return rows drawn by hypothesis: the later half of `2 * count` draws, since it begins with the simplest."""
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
    @given(strategies.tuples(*map(_strategy, value_types)))
    def draw(row: tuple[object, ...]) -> None:
        rows[repr(row)] = row

    draw()
    return list(rows.values())[::-1][:count]
