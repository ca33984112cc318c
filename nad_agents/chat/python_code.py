"""Compare Python code by what it does, and tell what is no Python."""

from __future__ import annotations

import ast
import textwrap
import warnings

__all__ = ["is_no_python", "normal_code", "normal_text"]

_LONGEST_CODE = 1 << 18


def normal_text(text: str) -> str:
    """Return a text without white space at the ends of lines and without empty lines around it."""
    return "\n".join(map(str.rstrip, text.strip("\r\n").splitlines()))


def normal_code(text: str, *, known_code: bool) -> str:
    """Return code as its syntax tree and indentation, and other text as `normal_text` does.

    Args:
        text: The text.
        known_code: Whether the text is code if it parses; otherwise a text of nothing but expressions is prose.
    """
    try:
        body = _parse(textwrap.dedent(text)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return normal_text(text)
    # prose with one word per line parses as Python too, but it is not code
    if not body or not (known_code or any(not isinstance(node, ast.Expr) for node in body)):
        return normal_text(text)
    first = next(line for line in text.splitlines() if line.strip())
    return f"{len(first) - len(first.lstrip())} {ast.dump(ast.Module(body, []))}"


def is_no_python(source: str) -> bool:
    """Return whether a text is no Python; False for what is too long or too deep to tell."""
    try:
        _parse(source)
    except (RecursionError, MemoryError):
        return False
    except (SyntaxError, ValueError):
        return True
    return False


def _parse(source: str) -> ast.Module:
    if len(source) > _LONGEST_CODE:
        raise MemoryError
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source.removeprefix("\ufeff"))
