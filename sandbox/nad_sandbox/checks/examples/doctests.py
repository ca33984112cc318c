"""Read the doctests in a prompt as the module doctest reads them."""

from __future__ import annotations

import ast
import doctest
import re
from collections.abc import Iterator
from itertools import accumulate

from nad_sandbox.checks.examples.prose import read_calls
from nad_sandbox.checks.examples.scanner import Reading, literal, plain_call
from nad_sandbox.checks.examples.wording import doubt_before
from nad_sandbox.checks.guarded_parse import parse_expression, unparse

__all__ = ["read_doctests"]

_PROMPT = re.compile(r"^[ \t]*>>> ", re.MULTILINE)
_BORDER = re.compile(r"^[ \t]*(?:```.*|~~~.*|\"\"\"|''')[ \t]*$", re.MULTILINE)
_CLOSED = re.compile(r"(?:\"\"\"|''')[ \t]*$")
_ERROR = re.compile(r"(?:\w+\.)*[A-Z]\w*(?:Error|Exception|Warning|Interrupt|Iteration|Exit)\b")
_SHORTENED = re.compile(r"(?P<shown>[+-]?\d+\.\d+)(?:\.\.\.|…)")
_OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.DONT_ACCEPT_BLANKLINE
_ADDRESS = re.compile(r"\b0x(?:\.\.\.|…|[0-9a-fA-F]{6,})")


def read_doctests(prompt: str) -> Iterator[tuple[int, Reading]]:
    """Yield every doctest that shows an output, with the index at which it begins.

    Args:
        prompt: Text whose doctests begin with ``>>>``.
    """
    # a fence or the end of a docstring is not output
    text = _BORDER.sub(lambda match: " " * len(match[0]), prompt)
    for block in _blocks(text):
        yield from _read_block(prompt, text, *block)


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Yield the bounds of each run of lines that begins with a doctest's prompt and has no blank line within."""
    at, start = 0, -1
    for line in [*text.splitlines(keepends=True), "\n"]:
        if start < 0 and _PROMPT.match(line):
            start = at
        elif start >= 0 and not line.strip():
            yield start, at
            start = -1
        at += len(line)


def _read_block(prompt: str, text: str, start: int, end: int) -> Iterator[tuple[int, Reading]]:
    block = text[start:end]
    try:
        examples = doctest.DocTestParser().get_examples(block)
    except ValueError as error:  # inconsistent indentation, or an unknown option
        shown = block.strip().splitlines()[0]
        yield start, Reading(shown, doubt=f"doctest cannot read it: {str(error)[:80]}")
        return
    places = [0, *accumulate(map(len, block.split("\n")), lambda at, size: at + size + 1)]
    unknown: str | None = None  # a function called without a shown output, which may have changed state
    for example in examples:
        at = start + places[example.lineno]
        reading = _read(example)
        if reading is None and not example.want.strip():
            # the prompt is followed by f(1) -> 2, or by f(1)  # 2
            beside = [found for _, found in read_calls(example.source)]
            reading = beside[0] if len(beside) == 1 else None
        call = plain_call(example.source)
        if call is not None and call[1] and not example.want.strip() and (reading is None or reading.doubt):
            unknown = unknown or call[1][0]
            reading = reading or Reading(example.source.strip(), call[0], doubt="it shows no output")
        if reading is None:
            continue
        if not reading.doubt and unknown is not None and (call is None or unknown not in call[1]):
            reading = _doubted(reading, f"{unknown} is called before it, and may change what it gives")
        if not reading.doubt and (doubt := doubt_before(prompt, start, start)):
            reading = _doubted(reading, doubt)
        yield at, reading


def _doubted(reading: Reading, doubt: str) -> Reading:
    return Reading(reading.text, reading.call, reading.expected, reading.comparison, reading.options, doubt)


def _read(example: doctest.Example) -> Reading | None:  # noqa: PLR0911 - a list of rules
    """Read one doctest; return None where it shows no output that could be checked."""
    shown = " ".join(f"{example.source.strip()} gives {example.want.strip()}".split())
    want = _CLOSED.sub("", example.want.rstrip()).rstrip()
    call = plain_call(example.source)
    if call is None:
        compared = _compared(example.source, want)
        if compared is not None:
            return compared
        return Reading(shown, doubt="it is no call with plain data") if want and "(" in example.source else None
    if not call[1]:
        return None
    if not want:
        return None
    options = sum(option for option, on in example.options.items() if on and option & _OPTIONS)
    if example.options.get(doctest.SKIP):
        return Reading(shown, call[0], doubt="it is marked with +SKIP")
    if example.exc_msg is not None:
        message = _CLOSED.sub("", example.exc_msg.strip()).strip()
        if example.options.get(doctest.IGNORE_EXCEPTION_DETAIL):
            message = message.partition(":")[0]
        return Reading(shown, call[0], message, "error", options)
    if want.startswith("Traceback") or _ERROR.match(want):
        return Reading(shown, call[0], doubt="it may be an exception, and doctest reads it as output")
    approximate = _SHORTENED.fullmatch(want)
    if approximate is not None:
        return Reading(shown, call[0], approximate["shown"], "approximate")
    if not options & doctest.ELLIPSIS:
        first = parse_expression(want)
        dots = first is not None and any(isinstance(n, ast.Constant) and n.value is Ellipsis for n in ast.walk(first))
        if dots or _ADDRESS.search(want) or _SHORTENED.search(want):
            return Reading(shown, call[0], doubt="it is shortened by dots, without # doctest: +ELLIPSIS")
    if _prose_below(want):
        return Reading(shown, call[0], doubt="lines that may be prose follow its value")
    return Reading(shown, call[0], want, "output", options)


def _prose_below(want: str) -> bool:
    """Return whether the lines below a value are more likely prose than output."""
    first, *rest = want.splitlines()
    if literal(want) is not None:
        return False
    fewest = 3 if literal(first) is not None else 5
    return any(len(line.split()) >= fewest and literal(line) is None for line in rest)


def _compared(source: str, want: str) -> Reading | None:
    """Read ``f(1) == 2`` in a doctest, which is an example where the doctest shows True or no output."""
    tree = parse_expression(source.strip())
    if tree is None or not isinstance(tree.body, ast.Compare) or len(tree.body.ops) != 1:
        return None
    shown = " ".join(f"{source.strip()} gives {want}".split())
    left, right = tree.body.left, tree.body.comparators[0]
    if not isinstance(tree.body.ops[0], ast.Eq | ast.Is) or want not in ("", "True"):
        return Reading(shown, doubt="it does not say what the call gives")
    for one, other in ((left, right), (right, left)):
        call, value = plain_call(unparse(one) or ""), literal(unparse(other) or "")
        if call is not None and call[1] and value is not None:
            return Reading(shown.removesuffix(" gives"), call[0], value[0])
    return Reading(shown, doubt="it does not compare a call with plain data")
