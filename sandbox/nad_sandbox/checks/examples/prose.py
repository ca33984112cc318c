"""Read examples in prose and tests: a call beside its value, or a function's arguments by name above its value."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from nad_sandbox.checks.examples.scanner import (
    Comparison,
    Reading,
    literal,
    plain_call,
    scan_brackets,
    scan_value,
)
from nad_sandbox.checks.examples.wording import RELATION, doubt_after, doubt_before, is_approximate
from nad_sandbox.checks.guarded_parse import parse_expression, unparse

__all__ = ["read_calls", "read_named_arguments"]

_NAME = re.compile(r"(?<!\w)([A-Za-z_]\w*)\(")
_BULLET = re.compile(r"[ \t]*(?:[-*+>|•]+|\d+[.)]|\([a-z0-9]\)|#+)?[ \t]*")
_OPERATOR = re.compile(r"(?:[-+*/%<>&^~@=|]|\w\(|\blambda\b.*)[ \t]*$")
_TAG = re.compile(r"</?\w+>[ \t]*$")
_ROUNDING = re.compile(r"\bround|\bdecimal|\bdigits?\b|\bprecision|\bplaces\b|\btruncat|\bformat", re.IGNORECASE)
_BLANK = re.compile(r"\n[ \t]*\n")
_MOST_CALLS = 1000
_INPUT = re.compile(
    r"^[ \t]*(?:[*#>-]{1,9}[ \t]*)?\*{0,3}Input\**[ \t]*:\**[ \t]*`*(?P<given>[^\s`][^\n`]{0,1000})`*[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
_OUTPUT = re.compile(r"\n[ \t]*(?:[*#>-]{1,9}[ \t]*)?\*{0,3}Output\**[ \t]*:\**[ \t]*`*", re.IGNORECASE)
_FOR = re.compile(r"\bFor (?P<given>\w+ = )")
_GIVES = re.compile(r"[ \t]*,?[ \t]+the (?:output|result) should be[ \t]+`*")


def read_calls(text: str) -> Iterator[tuple[int, Reading]]:
    """Yield each call that stands beside its value, with the index at which it begins.

    Args:
        text: The prompt with its doctests blanked out.
    """
    headed_from = _first_heading(text)
    at = 0
    earlier, paragraph_end = "", 0  # a call that stands alone, which may change what the calls below it return
    for _ in range(_MOST_CALLS):
        match = _NAME.search(text, at)
        if match is None:
            return
        at = match.end()
        if _defines(text, match.start()):
            continue
        brackets = scan_brackets(text, match.end() - 1)
        if brackets is None:
            if _near_relation(text, match.end()):
                yield match.start(), Reading(_line(text, match.start()), doubt="its arguments cannot be read")
            continue
        call = plain_call(match[1] + brackets[0])
        if call is None or not call[1]:
            continue
        found = _beside(text, match.start(), brackets[1], call[0], headed=match.start() >= headed_from)
        if found is None:
            if _stands_alone(text, match.start(), brackets[1]) and match.start() >= paragraph_end:
                blank = _BLANK.search(text, brackets[1])
                earlier, paragraph_end = match[1], blank.start() if blank else len(text)
            continue
        reading, at = found
        if match.start() < paragraph_end and match[1] != earlier and not reading.doubt:
            reading = replace(reading, doubt=f"{earlier} is called before it, and may change what it gives")
        yield match.start(), reading


def _beside(text: str, start: int, end: int, call: str, *, headed: bool) -> tuple[Reading, int] | None:
    """Read the value that follows a call, and the index behind it; return None where the text gives no value."""
    relation = RELATION.match(text, end)
    if relation is None or (relation["comment"] == "//" and not relation["symbol"]):
        return None
    kind = next(name for name in _KINDS if relation[name] is not None)
    if kind == "bare" and not relation["comment"]:
        return None
    value = _value_or_error(text, relation.end(), kind)
    shown = " ".join(text[start : value[1] if value else _clause_end(text, relation.end())].split())
    if value is None:
        # "is", ":" and a comment often introduce something other than a value
        unspecific = relation[kind] == "=" or kind in ("colon", "bare", "cell", "verb", "prints", "past", "raises")
        if unspecific and not _value_ahead(text, relation.end()):
            return None
        if kind == "denied":
            return Reading(shown, call, doubt="it says what the call does not give"), relation.end()
        return Reading(shown, call, doubt="no plain value follows"), relation.end()
    expected, behind, comparison = value
    doubt = _doubt(text, start, relation, kind, behind, headed=headed)
    asserted = re.search(r"\bassert[ \t]+$", text[max(0, start - 20) : start]) is not None
    quote = _quote_before(text, start)
    after, remark = doubt_after(text, behind, normative=kind == "norm", asserted=asserted, quote=quote)
    doubt = doubt or doubt_before(text, start, behind) * (kind != "norm") or after
    if kind in ("near",) or relation["about"] or is_approximate(remark):
        comparison = "approximate"
    if comparison == "value" and not asserted and _is_rounded(expected) and not _ROUNDING.search(text):
        # a program that does not round is correct unless the prompt asks for rounding
        comparison = "approximate"
    if comparison == "approximate" and not _is_decimal(expected):
        doubt = doubt or "it is approximate, and shows no decimals"
    if (call.startswith("print(") or kind == "prints") and comparison == "value":
        comparison = "output"
    return Reading(shown, call, expected, comparison, doubt=doubt), behind


_KINDS = ("denied", "raises", "norm", "prints", "past", "near", "symbol", "colon", "cell", "bare", "verb")


def _value_or_error(text: str, at: int, kind: str) -> tuple[str, int, Comparison] | None:
    if kind == "raises":
        name = re.compile(r"[`*]*((?:\w+\.)*[A-Z]\w*)\b(?!\()").match(text, at)
        return (name[1].rpartition(".")[2], name.end(), "error") if name else None
    found = scan_value(text, at)
    if found is None:
        return None
    expected, end = found
    dots = re.compile(r"\.\.\.|…").match(text, end)
    if dots is not None and _is_decimal(expected):
        return expected, dots.end(), "approximate"
    return expected, end, "value"


def _doubt(  # noqa: PLR0911 - a list of rules
    text: str, start: int, relation: re.Match[str], kind: str, behind: int, *, headed: bool
) -> str:
    """Return why a call and the value beside it are uncertain, by the text around the call; empty if they are not."""
    line = text[text.rfind("\n", 0, start) + 1 : start]
    if kind == "denied":
        return "it says what the call does not give"
    if kind == "past":
        return "it tells of what happened"
    if re.search(r"[\w)\]'\"]\.$", line):
        return "it calls a method"
    if line.endswith("print("):
        return "it is printed, compared"
    if kind == "symbol" and relation[kind] == "=" and not headed:
        return "an equation may be part of a definition"
    bullet = _BULLET.match(line)
    before = line[bullet.end() if bullet else 0 :]
    before = re.sub(r"(?<![\w)*`])[*`]+$", "", before)
    if _OPERATOR.search(before) and not _TAG.search(before):
        return "it is part of a longer expression"
    if kind == "colon" and (line.strip(" \t-*+>`#0123456789.)") or text[behind : behind + 1] not in ("", "\n", "`")):
        return "a colon may say something else"
    if kind == "cell":
        row = text[text.rfind("\n", 0, start) + 1 :].split("\n", 1)[0].strip()
        cells = re.sub(r"\"[^\"]*\"|'[^']*'", "''", row).strip("|").split("|")
        if not row.startswith("|") or len(cells) != 2 or line.strip(" \t|`*"):
            return "the columns of a table may say something else"
    if kind == "bare" and text[behind : behind + 1] not in ("", "\n"):
        return "a comment may say something else"
    return ""


def _quote_before(text: str, start: int) -> str:
    """Return the mark that closes the quotation mark right before a call; empty if there is none."""
    mark = text[start - 1 : start]
    return {"“": "”", "‘": "’", '"': '"', "'": "'"}.get(mark, "")


def _is_decimal(expected: str) -> bool:
    return re.fullmatch(r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?", expected) is not None


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Return whether a call has a line to itself."""
    before, after = text[text.rfind("\n", 0, start) + 1 : start], text[end : end + 200].split("\n", 1)[0]
    return not before.strip() and not after.strip(" \t;")


def _is_rounded(expected: str) -> bool:
    """Return whether a decimal may be rounded for display."""
    return re.fullmatch(r"[+-]?\d*\.\d{2,9}", expected) is not None


def _defines(text: str, start: int) -> bool:
    return re.search(r"\b(?:def|class|lambda)[ \t]+$", text[max(0, start - 12) : start]) is not None


def _near_relation(text: str, at: int) -> bool:
    """Return whether a comparison or an arrow follows in the line of a call that cannot be read."""
    line = text[at : at + 300].split("\n", 1)[0]
    return re.search(r"\)[`*]*[ \t]*(?:={2,3}>?|=>|->|➞|→|⇒|returns?\b|should (?:return|be)\b)", line) is not None


def _value_ahead(text: str, at: int) -> bool:
    return re.compile(r"[ \t]*(?:[-+−]?\d|[\"'“‘\[({]|(?:True|False|None)\b)").match(text, at) is not None


def _line(text: str, start: int) -> str:
    return " ".join(text[start : start + 120].split("\n", 1)[0].split())


def _clause_end(text: str, at: int) -> int:
    line_end = text.find("\n", at)
    return min(line_end if line_end >= 0 else len(text), at + 60)


def _first_heading(text: str) -> int:
    """Return the index of the line that first mentions examples; above it, ``f(1) = 2`` may be part of a definition."""
    word = re.search(r"example|\be\.?g\b|for instance|sample", text, re.IGNORECASE)
    return text.rfind("\n", 0, word.start()) + 1 if word else len(text)


def read_named_arguments(prompt: str, signature: tuple[str, Sequence[str]] | None) -> Iterator[tuple[int, Reading]]:
    """Yield examples such as ``Input: x = 1`` above ``Output: 2``, and ``For x = 1 the output should be 2``.

    Args:
        prompt: The prompt that the model is asked.
        signature: Name and parameters of the function asked for; without a signature nothing is yielded.
    """
    if signature is None:
        return
    for match in _INPUT.finditer(prompt):
        output = _OUTPUT.match(prompt, match.end())
        if output is not None:
            yield from _by_name(prompt, match.start(), match["given"], output.end(), signature)
    for match in _FOR.finditer(prompt):
        line_end = prompt.find("\n", match.end())
        line_end = min(line_end if line_end >= 0 else len(prompt), match.start() + 1000)
        gives = _GIVES.search(prompt, match.end(), line_end)
        if gives is not None:
            given = prompt[match.start("given") : gives.start()]
            yield from _by_name(prompt, match.start(), given, gives.end(), signature)


def _by_name(
    prompt: str, start: int, given: str, at: int, signature: tuple[str, Sequence[str]]
) -> Iterator[tuple[int, Reading]]:
    name, order = signature
    tree = parse_expression(f"f({given.strip().rstrip(',')})")
    call = tree.body if tree is not None else None
    if not isinstance(call, ast.Call) or call.args or not call.keywords:
        return
    values: Mapping[str | None, tuple[str, object] | None] = {
        keyword.arg: literal(unparse(keyword.value) or "") for keyword in call.keywords
    }
    shown = " ".join(f"{given.strip()} gives {_line(prompt, at)}".split())
    if list(values) != list(order) or any(value is None for value in values.values()):
        yield start, Reading(shown, doubt=f"it does not name the parameters of {name} with plain data")
        return
    source = f"{name}({', '.join(value[0] for value in values.values() if value is not None)})"
    found = _value_or_error(prompt, at, "symbol")
    if found is None:
        yield start, Reading(shown, source, doubt="no plain value follows")
        return
    expected, end, comparison = found
    yield start, Reading(shown, source, expected, comparison, doubt=doubt_after(prompt, end)[0])
