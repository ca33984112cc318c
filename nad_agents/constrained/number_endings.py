"""Complete a JSON number whose schema bounds it, or asks for multiples of another number."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llguidance import LLMatcher

__all__ = ["NumberLimits", "number_ending", "number_limits", "shortest_number"]

_MAX_TRIED = 2500
"""Number of texts after which the search gives up, some tens of milliseconds."""

_BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")

_UNFINISHED = re.compile(r"(?<![\w.+-])-?(?:[0-9]+(?:[.][0-9]*)?)?\Z")


@dataclass(frozen=True)
class NumberLimits:
    """Constraints on the numbers of a schema.

    Attributes:
        values: Bounds, and the multiples next to them, in ascending order.
        multiples: Positive integers of which numbers have to be multiples.
        longest: Number of characters of the longest of them.
    """

    values: tuple[Fraction, ...] = ()
    multiples: tuple[int, ...] = ()
    longest: int = 0


def number_limits(schemas: Sequence[Mapping[str, Any]]) -> NumberLimits:
    """Collect the bounds and multiples of all numbers in some schemas."""
    values: set[Fraction] = set()
    multiples: set[Fraction] = set()

    def search(part: Any) -> None:
        if isinstance(part, Mapping):
            bounds = [Fraction(str(part[key])) for key in _BOUNDS if _is_number(part.get(key))]
            values.update(bounds)
            if _is_number(part.get("multipleOf")) and part["multipleOf"] > 0:
                step = Fraction(str(part["multipleOf"]))
                multiples.add(step)
                values.update(step * whole for bound in (*bounds, Fraction(1)) for whole in _whole_near(bound / step))
        for inner in part.values() if isinstance(part, Mapping) else part if isinstance(part, list) else ():
            search(inner)

    search(list(schemas))
    texts = [text for value in (*values, *multiples) if (text := _written(value)) is not None]
    whole = tuple(sorted(int(step) for step in multiples if step.denominator == 1))
    return NumberLimits(tuple(sorted(values)), whole, max(map(len, texts), default=0))


def number_ending(
    matcher: LLMatcher, characters: Mapping[str, int], ends: Sequence[int], text: str, limits: NumberLimits
) -> list[int] | None:
    """Find a short way to the end of a number.

    Args:
        matcher: The candidate's matcher, within a number or where a number may begin; it is left unchanged.
        characters: Token id by character.
        ends: Tokens of which one follows a complete number.
        text: The candidate's text so far.
        limits: Constraints on the numbers of the schema.

    Returns:
        Tokens after which the number may end; None if the search found none.
    """

    def is_ending(tokens: list[int]) -> bool:
        return any(matcher.validate_tokens([*tokens, end]) == len(tokens) + 1 for end in ends)

    tried = 0
    frontier: list[list[int]] = [[]]
    while frontier and tried < _MAX_TRIED:
        longer: list[list[int]] = []
        for tokens in frontier:
            for character in "0123456789.-":
                if character not in characters:
                    continue
                new, tried = [*tokens, characters[character]], tried + 1
                if matcher.validate_tokens(new) < len(new):
                    continue
                if is_ending(new):
                    return new
                longer.append(new)
        if len(longer[:1]) and len(longer[0]) == 1:
            # a number of many digits, which trying one after the other would not reach
            for digits in _computed(text, limits):
                new = [characters[character] for character in digits if character in characters]
                if len(new) == len(digits) and is_ending(new):
                    return new
        frontier = longer
    return None


def _computed(text: str, limits: NumberLimits) -> Iterator[str]:
    """Yield digits that make an unfinished number a multiple, or one of the schema's own values; short ones first."""
    found = _UNFINISHED.search(text)
    written = found[0] if found else ""
    wholes = [_written(value) for value in limits.values]
    endings = [whole[len(written) :] for whole in wholes if whole is not None and whole.startswith(written)]
    if written.lstrip("-").isdigit():
        for multiple in limits.multiples:
            for count in range(1, len(str(multiple)) + 2):
                least = -(int(written.lstrip("-")) * 10**count) % multiple
                endings += [f"{least + multiple * i:0{count}d}" for i in range(10) if least + multiple * i < 10**count]
    else:
        endings += [str(multiple * i) for multiple in limits.multiples for i in range(1, 10)]
    return iter(sorted({ending for ending in endings if ending}, key=lambda ending: (len(ending), ending)))


def shortest_number(schema: Mapping[str, Any], *, integer: bool) -> str:
    """Return approximately the shortest text of a number that fits a schema.

    Args:
        schema: JSON schema of the number.
        integer: Whether the number has to be whole.
    """
    limits = number_limits([schema])
    tried = [Fraction(text) for text in ("0", "1", "2", "-1", "0.1", "0.5", "-0.1")]
    tried += [value + shift for value in limits.values for shift in (0, 1, -1)]
    texts = [text for value in tried if _fits(value, schema, integer=integer) and (text := _written(value)) is not None]
    return min(texts, key=len, default="0" * max(1, limits.longest + 2))


def _fits(value: Fraction, schema: Mapping[str, Any], *, integer: bool) -> bool:
    bound = {key: Fraction(str(schema[key])) for key in (*_BOUNDS, "multipleOf") if _is_number(schema.get(key))}
    return (
        (value.denominator == 1 or not integer)
        and value >= bound.get("minimum", value)
        and value <= bound.get("maximum", value)
        and ("exclusiveMinimum" not in bound or value > bound["exclusiveMinimum"])
        and ("exclusiveMaximum" not in bound or value < bound["exclusiveMaximum"])
        and (not bound.get("multipleOf") or (value / bound["multipleOf"]).denominator == 1)
    )


def _whole_near(value: Fraction) -> tuple[int, ...]:
    return math.floor(value) - 1, math.floor(value), math.ceil(value), math.ceil(value) + 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _written(value: Fraction) -> str | None:
    """Return a number without an exponent; None if it has no finite decimal form of a sensible length."""
    if value.denominator == 1:
        return str(value.numerator)
    for places in range(1, 40):
        scaled = value * 10**places
        if scaled.denominator == 1:
            digits = f"{abs(scaled.numerator):0{places + 1}d}"
            return f"{'-' * (value < 0)}{digits[:-places]}.{digits[-places:]}"
    return None
