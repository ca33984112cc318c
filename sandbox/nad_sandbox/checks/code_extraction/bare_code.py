"""Find code without fences: runs of lines between prose, and the complete part of a truncated program."""

from __future__ import annotations

import ast
import re

from nad_sandbox.checks.code_extraction.program_facts import facts
from nad_sandbox.checks.guarded_parse import error_line, parse_program

__all__ = ["code_runs", "longest_beginning", "without_remarks"]

_CODE_START = re.compile(
    r"\s*(?:@|#|(?:def|class|import|from|for|while|if|try|with|async|assert|match)\b|[A-Za-z_][\w., ]*[=(\[:+*/-])"
)
_TAG = re.compile(
    r"</?(?:code|pre|answer|solution|python|output|response|final)\b[^>\n]*>|\[/?(?:PYTHON|CODE|ANSWER|TESTS?)\]",
    re.IGNORECASE,
)
_STATEMENT_START = re.compile(r"[^\s)\]}#'\"]")
# enough for any answer of code and prose; the search gives up on text that is nothing but broken lines
_MOST_ATTEMPTS = 400
_MOST_CHARACTERS = 800_000
_MOST_BEGINNINGS = 20


def code_runs(text: str) -> list[str]:
    """Return every run of whole lines that forms a program, in order.

    Args:
        text: Prose with code in it, which may be indented.
    """
    lines = _TAG.sub("\n", text).split("\n")
    attempts = max(3, min(_MOST_ATTEMPTS, _MOST_CHARACTERS // (len(text) + 1)))
    found: list[str] = []
    start = 0
    while start < len(lines) and attempts:
        end = len(lines) if _CODE_START.match(lines[start]) else start
        indent = len(lines[start]) - len(lines[start].lstrip())
        code = ""
        while end > start and attempts:
            attempts -= 1
            code = "\n".join(line[indent:] if not line[:indent].strip() else line for line in lines[start:end]) + "\n"
            wrong = _first_wrong_line(code)
            if wrong is None:
                break
            end, code = start + min(wrong - 1, end - start - 1), ""
        code = without_remarks(code) if code else ""
        known = facts(code)
        if code.strip() and known is not None and known.works:
            found.append(code.rstrip() + "\n")
        start = max(end, start + 1)
    return found


def longest_beginning(code: str) -> str:
    """Return the part of a program before the top-level statement at which it stops being valid Python.

    Args:
        code: A program that was truncated or that prose follows; it is returned unchanged if no beginning of it parses.
    """
    wrong = error_line(code)
    if wrong is None:
        return code
    lines = code.split("\n")
    starts = [at for at in range(min(wrong, len(lines))) if _STATEMENT_START.match(lines[at])]
    for at in starts[::-1][:_MOST_BEGINNINGS]:
        begun = "\n".join(lines[:at]).rstrip() + "\n"
        if begun.strip() and parse_program(begun) is not None:
            return begun
    return code


def without_remarks(code: str) -> str:
    """Return a program without lines of prose that happen to parse, such as ``Explanation`` and ``Note: this``.

    Args:
        code: Source that parses.
    """
    known = facts(code)
    if known is None:
        return code
    lines = code.split("\n")
    for node in known.tree.body:
        if _is_remark(node, known.unbound):
            for at in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[at] = ""
    left = "\n".join(lines)
    return left if facts(left) is not None else code


def _is_remark(node: ast.stmt, unbound: frozenset[str]) -> bool:
    """Return whether a statement can only fail: an expression or annotation with names that nothing binds."""
    if isinstance(node, ast.AnnAssign) and node.value is None:
        read: ast.AST = node.annotation
    elif isinstance(node, ast.Expr):
        read = node.value
    else:
        return False
    names = [inner.id for inner in ast.walk(read) if isinstance(inner, ast.Name)]
    return not unbound.isdisjoint(names)


def _first_wrong_line(code: str) -> int | None:
    """Return the line, from 1, at which source stops being valid Python; None when all of it is valid."""
    wrong = error_line(code)
    return 1 if wrong is None and facts(code) is None else wrong
