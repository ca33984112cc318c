"""Scan calls and literal values in the text of a prompt: find where each ends, and whether it is plain data."""

from __future__ import annotations

import ast
import builtins
import re
from dataclasses import dataclass
from typing import Literal

from nad_sandbox.checks.guarded_parse import PARSE_ERRORS, parse_expression

__all__ = ["Comparison", "Reading", "literal", "plain_call", "scan_brackets", "scan_value"]

Comparison = Literal["value", "approximate", "output", "error"]
"""How an example is compared.

`value`: the call returns the value. `approximate`: the call returns a number with the digits shown. `output`: doctest
accepts the output. `error`: the call raises the exception.
"""

_LONGEST = 2000
_DEEPEST = 40
_MOST_OPERATORS = 20
_LARGEST_POWER = 1000
_LONGEST_REPETITION = 1_000_000
_PLAIN_NODES = (
    ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.UnaryOp,
    ast.USub, ast.UAdd, ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Pow, ast.keyword,
)  # fmt: skip
_JSON_NAMES = {"true": True, "false": False, "null": None}
_WORDS = _JSON_NAMES | {"True": True, "False": False, "None": None, "none": None, "TRUE": True, "FALSE": False}
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_TOKEN = re.compile(r"[\[\](){}\"'“‘#]")
_STRINGS = {
    '"': re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    "'": re.compile(r"'(?:[^'\\\n]|\\.)*'"),
    "“": re.compile(r"“[^“”\"\\\n]*”"),
    "‘": re.compile(r"‘[^‘’'\\\n]*’(?!\w)"),
}
_STRAIGHT = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'"})
_ASCII = str.maketrans({"\u2212": "-", "\u00a0": " "})
_NUMBER = re.compile(
    r"[+\-\u2212]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+"
    r"|(?:\d[\d_]*(?:\.\d+)?|\.\d+)(?:[eE][+\-\u2212]?\d+)?[jJ]?)(?!\w)"
)
_WORD = re.compile(r"set\(\)|[A-Za-z]+(?!\w)")
_PREFIX = re.compile(r"(?:[rRbBuU]|[rR][bB]|[bB][rR])?(?=[\"'“‘])")
_RAW = re.compile(r"[rR][bB]?[\"']")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = frozenset("\n\\'\"abfnrtvx01234567NuU")
_ANY_STRING = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'")
_TIGHT_COMMA = re.compile(r"(?<![\w.])\d{1,3},\d{3}(?![\w.])")
_PADDED = re.compile(r"(?<![\w.])0\d")


@dataclass(frozen=True)
class Reading:
    """The result of a call as one place of a prompt seems to state it.

    Attributes:
        text: The place, as shown to a person.
        call: Source of the call; empty when it cannot be read.
        expected: Source of the value, the output, or the exception's class and message.
        comparison: How the expected text is compared.
        options: Doctest's option flags.
        doubt: Why the reading is uncertain; empty when it is certain.
    """

    text: str
    call: str = ""
    expected: str = ""
    comparison: Comparison = "value"
    options: int = 0
    doubt: str = ""


def literal(source: str) -> tuple[str, object] | None:
    """Return a literal as Python writes it, and its value; JSON's ``true``, ``false`` and ``null`` are accepted.

    Args:
        source: Text that may be a literal; None is returned for any other text.
    """
    source = _escaped(source.strip())
    tree = parse_expression(source)
    if tree is None:
        return None
    try:
        written, tree = _without_json_names(source, tree)
        return written, ast.literal_eval(tree)
    except PARSE_ERRORS:
        return None


def plain_call(source: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the source of a call with plain data, and the names of the functions it needs that are not built in.

    Args:
        source: Text that may be such a call; None is returned for any other text.
    """
    source = _escaped(source.strip())
    tree = parse_expression(source)
    if tree is None or not isinstance(tree.body, ast.Call):
        return None
    try:
        written, tree = _without_json_names(source, tree)
        nodes = list(ast.walk(tree))
    except PARSE_ERRORS:
        return None
    if not all(isinstance(node, _PLAIN_NODES) and _evaluates(node) for node in nodes):
        return None
    if sum(isinstance(node, ast.BinOp) for node in nodes) > _MOST_OPERATORS:
        return None
    functions = [node.func for node in nodes if isinstance(node, ast.Call)]
    names = [function.id for function in functions if isinstance(function, ast.Name)]
    loaded = [node.id for node in nodes if isinstance(node, ast.Name)]
    if len(names) != len(functions) or sorted(names) != sorted(loaded):
        return None
    return written, tuple(name for name in dict.fromkeys(names) if not hasattr(builtins, name))


def scan_brackets(text: str, start: int) -> tuple[str, int] | None:  # noqa: PLR0911 - many ways to end
    """Return the source from an opening bracket to the bracket that closes it, and the index behind that.

    Typographic quotes become straight ones where they enclose a string, and a minus sign becomes a hyphen.

    Args:
        text: Prose or code.
        start: Index of the opening bracket.
    """
    stack: list[str] = []
    parts: list[str] = []
    at, limit = start, min(len(text), start + _LONGEST)
    while at < limit:
        token = _TOKEN.search(text, at, limit)
        if token is None:
            return None
        parts.append(text[at : token.start()].translate(_ASCII))
        at = token.start()
        found = token[0]
        if found in _STRINGS:
            string = _STRINGS[found].match(text, at, limit)
            if string is None:
                return None
            parts.append(string[0].translate(_STRAIGHT) if found in "“‘" else string[0])
            at = string.end()
        elif found == "#":
            line_end = text.find("\n", at)
            if line_end < 0:
                return None
            at = line_end
        else:
            parts.append(found)
            at += 1
            if found in _CLOSING:
                stack.append(_CLOSING[found])
                if len(stack) > _DEEPEST:
                    return None
            elif stack.pop() != found:
                return None
            if not stack:
                source = "".join(parts)
                return None if _has_thousands(source) else (source, at)
    return None


def scan_value(text: str, start: int) -> tuple[str, int] | None:  # noqa: PLR0911 - one for each kind
    """Return the literal that begins at an index, as Python writes it, and the index behind it.

    A tuple without parentheses does not count as a literal.

    Args:
        text: Prose or code.
        start: Index at which the literal begins.
    """
    first = text[start : start + 1]
    if not first:
        return None
    if first in _CLOSING:
        found = scan_brackets(text, start)
        read = literal(found[0]) if found else None
        # ("a") may be meant as a tuple of one item, and dots stand for omitted items
        if found is None or read is None or (first == "(" and not isinstance(read[1], tuple)) or _has_dots(read[0]):
            return None
        return read[0], found[1]
    number = _NUMBER.match(text, start)
    if number is not None:
        read = None if _has_thousands(number[0]) else literal(number[0].translate(_ASCII))
        return None if read is None else (read[0], number.end())
    prefix = _PREFIX.match(text, start)
    if prefix is not None:
        quote = text[prefix.end()]
        string = _STRINGS[quote].match(text, prefix.end(), start + _LONGEST)
        if string is None or text.startswith(quote * 3, prefix.end()):
            return None
        source = string[0].translate(_STRAIGHT) if quote in "“‘" else string[0]
        read = literal(prefix[0] + source)
        return None if read is None else (read[0], string.end())
    word = _WORD.match(text, start)
    if word is not None and word[0] == "set()":
        return word[0], word.end()
    if word is not None and word[0] in _WORDS:
        return repr(_WORDS[word[0]]), word.end()
    return None


def _has_dots(source: str) -> bool:
    """Return whether ``...`` is an item of the literal, outside of strings."""
    tree = parse_expression(source)
    return tree is None or any(isinstance(node, ast.Constant) and node.value is Ellipsis for node in ast.walk(tree))


def _escaped(source: str) -> str:
    """Return an expression with the backslash of each unknown escape doubled, so that Python does not warn about it."""
    if "\\" not in source or _RAW.search(source):
        return source
    return _ESCAPE.sub(lambda match: match[0] if match[1] in _ESCAPES else "\\" + match[0], source)


def _has_thousands(source: str) -> bool:
    """Return whether commas may separate thousands: a number is padded with zeros, or commas come in two styles."""
    bare = _ANY_STRING.sub("''", source)
    return _PADDED.search(bare) is not None or (_TIGHT_COMMA.search(bare) is not None and ", " in bare)


def _evaluates(node: ast.AST) -> bool:
    """Return whether a node can be evaluated with little time and memory."""
    if isinstance(node, ast.Constant):
        return node.value is not Ellipsis  # dots stand for something omitted
    if isinstance(node, ast.UnaryOp):
        return not isinstance(node.operand, ast.UnaryOp)
    if not isinstance(node, ast.BinOp):
        return True
    sides = [side.value if isinstance(side, ast.Constant) else None for side in (node.left, node.right)]
    if isinstance(node.op, ast.Pow):
        return all(isinstance(side, int | float) for side in sides) and abs(sides[1]) <= _LARGEST_POWER  # type: ignore[arg-type]
    if isinstance(node.op, ast.Mult):
        numbers = [side for side in sides if isinstance(side, int | float)]
        return len(numbers) == 2 or (len(numbers) == 1 and abs(numbers[0]) <= _LONGEST_REPETITION)
    return True


class _JsonNames(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.copy_location(ast.Constant(_JSON_NAMES[node.id]), node) if node.id in _JSON_NAMES else node


def _without_json_names(source: str, tree: ast.Expression) -> tuple[str, ast.Expression]:
    """Return an expression's source on one line, and its tree, with JSON's names replaced by Python's."""
    named = any(isinstance(node, ast.Name) and node.id in _JSON_NAMES for node in ast.walk(tree))
    if named:
        tree = ast.fix_missing_locations(_JsonNames().visit(tree))
    return (ast.unparse(tree) if named or "\n" in source or "#" in source else source), tree
