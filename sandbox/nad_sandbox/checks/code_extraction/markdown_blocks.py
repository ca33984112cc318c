"""Read the fenced code blocks of a Markdown text by CommonMark's rules, and allow for mistakes that models make."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nad_sandbox.checks.guarded_parse import parse_program

__all__ = ["Block", "fenced_blocks", "without_fences"]

_FENCE = re.compile(r"^(?P<indent>[ \t]*(?:(?:[-*+]|\d{1,3}[.)])[ \t]+)?)(?P<mark>`{3,}|~{3,})(?P<info>[^\n]*)$")
_LIST_ITEM = re.compile(r"^[ \t]*(?:[-*+]|\d{1,3}[.)])[ \t]")
_QUOTED_FENCE = re.compile(r"^[ \t]*>[ \t]?(?:`{3,}|~{3,})", re.MULTILINE)
_QUOTE_MARK = re.compile(r"^[ \t]*>(?!>)[ \t]?", re.MULTILINE)
_LANGUAGE = re.compile(
    r"\{?[ \t]*\.?(?:lang(?:uage)?-)?(?P<language>[A-Za-z][\w+#-]*)(?:[ \t]?3(?:\.\d+)*\b)?(?P<rest>.*)", re.DOTALL
)
_PYTHON = {"python", "py", "python3", "py3", "python2", "ipython", "ipython3", "sage"}
_SESSIONS = {"pycon", "doctest", "pyconsole", "python-console", "python-repl", "pytb"}
_NESTING = {"markdown", "md"}
_ONE_LINE = re.compile(r"^[ \t]*(?P<mark>`{3,})[ \t]*(?P<code>[^`\n]+?)[ \t]*(?P=mark)[ \t]*$")
_FIRST_LINE = re.compile(r"@|(?:async )?def |class |from |import |for |while |if |return\b|\w+ = ")
_MOST_BLOCKS = 64
_MOST_CLOSERS = 12
_MOST_INDENT = 3


@dataclass(frozen=True)
class Block:
    """A fenced code block.

    Attributes:
        language: "python", "session" (an interactive one), another label in lower case, or "" without a label.
        code: The text between the fences, without the indentation of the opening fence.
        closed: Whether the block has a closing fence; otherwise the text ends within the block.
    """

    language: str
    code: str
    closed: bool = True


def fenced_blocks(text: str, is_code: Callable[[str], bool] = lambda _: False) -> list[Block]:
    """Return the fenced blocks of a text in order.

    A fence indented by four or more spaces outside of a list is text, such as a fence in a docstring. A block that is
    not valid Python up to the first closing fence extends to a later one up to which it is valid: then the first fence
    was part of a string.

    Args:
        text: Markdown, with line feeds as line ends.
        is_code: Function that tells whether the text before an unlabeled first fence is code; that fence then closes
            a block that the prompt opened, or that was never opened.
    """
    if _QUOTED_FENCE.search(text):
        text = _QUOTE_MARK.sub("", text)
    lines = text.split("\n")
    blocks: list[Block] = []
    at = 0
    while at < len(lines) and len(blocks) < _MOST_BLOCKS:
        one_line = _ONE_LINE.match(lines[at])
        fence = _opening(lines, at)
        if one_line:
            language, rest = _language(one_line["code"])
            blocks.append(Block(language, rest.strip() if language == "python" else one_line["code"]))
        elif fence is not None:
            info = fence["info"].strip()
            if not blocks and not info and is_code("\n".join(lines[:at])):
                blocks.append(Block("python", "\n".join(lines[:at])))
            else:
                at = _read_block(lines, at, fence, blocks)
        at += 1
    return list(_nested(blocks))


def without_fences(text: str) -> str:
    """Return a text with its fence lines blanked out."""
    return "\n".join("" if _FENCE.match(line) else line for line in text.split("\n"))


def _read_block(lines: list[str], at: int, fence: re.Match[str], blocks: list[Block]) -> int:
    """Append the block that a fence opens to `blocks`, and return the index of its last line."""
    language, rest = _language(fence["info"])
    end, last, closed = _end(lines, at, fence, checked=language in ("python", ""))
    code = _unindented([*lines[at + 1 : end], *last], len(fence["indent"].expandtabs(4)))
    blocks.append(Block(language, _with_info(code, fence["info"], rest, language), closed))
    return end


def _opening(lines: list[str], at: int) -> re.Match[str] | None:
    fence = _FENCE.match(lines[at])
    if fence is None or (fence["mark"][0] == "`" and "`" in fence["info"]):
        return None
    indent = _indent(lines[at])
    if indent <= _MOST_INDENT:
        return fence
    for line in reversed(lines[:at]):  # a list item may be indented further
        if line.strip() and _indent(line) < indent:
            indent = _indent(line)
            if _LIST_ITEM.match(line):
                return fence
            if indent == 0:
                return None
    # all lines above are blank or indented: the whole answer is indented
    return fence


def _end(lines: list[str], start: int, fence: re.Match[str], *, checked: bool) -> tuple[int, list[str], bool]:
    """Find the end of a block: the index of its closing line, the code lines up to there, and whether it is closed."""
    mark, most = fence["mark"], _indent(lines[start]) + _MOST_INDENT
    closers: list[tuple[int, list[str]]] = []
    regular: tuple[int, list[str]] | None = None
    for at in range(start + 1, len(lines)):
        line = lines[at].rstrip()
        if not line.endswith(mark) and not line.lstrip().startswith(mark):
            continue
        bare = line.strip() == mark[0] * len(line.strip())
        if _indent(line) > most and (bare or line.lstrip().startswith(mark)):
            continue
        code = [] if line.lstrip().startswith(mark) else [line.rstrip(mark[0])]
        if bare and regular is None:
            regular = at, code
        closers.append((at, code))
        if len(closers) == _MOST_CLOSERS:
            break
    # a block of another language ends at the first fence
    if checked:
        for at, code in closers:
            if parse_program(textwrap.dedent("\n".join([*lines[start + 1 : at], *code])).strip() + "\n") is not None:
                return at, code, True
    if regular is not None:
        return *regular, True
    return len(lines), [], False


def _language(info: str) -> tuple[str, str]:
    """Split an info string into the language that it names and the rest."""
    found = _LANGUAGE.match(info.strip())
    if found is None:
        return "", info.strip()
    name = found["language"].lower()
    if name in _PYTHON:
        return "python", found["rest"]
    return ("session", "") if name in _SESSIONS else (name, "")


def _with_info(code: str, info: str, rest: str, language: str) -> str:
    """Return the code, with its first line put back where the model wrote it behind the opening fence."""
    first = (rest if language == "python" else info).strip()
    if language == "session" or not _FIRST_LINE.match(first):
        return code
    whole = f"{first}\n{code}"
    return whole if parse_program(whole) is not None else code


def _nested(blocks: list[Block]) -> Iterator[Block]:
    """Yield the blocks, with each Markdown block replaced by the blocks inside it."""
    for block in blocks:
        inner = fenced_blocks(block.code) if block.language in _NESTING else []
        yield from inner or [block]


def _unindented(lines: list[str], width: int) -> str:
    """Join lines after removing up to `width` columns of indentation, that of the opening fence, from each."""
    taken = []
    for line in lines:
        expanded = line
        if width and "\t" in line[:width]:
            expanded = line.expandtabs(4)
        blank = len(expanded) - len(expanded.lstrip(" "))
        taken.append(expanded[min(width, blank) :])
    return "\n".join(taken)


def _indent(line: str) -> int:
    line = line.expandtabs(4)
    return len(line) - len(line.lstrip())
