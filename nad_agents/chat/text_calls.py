"""Read the calls and edits that coding agents have written into the text of an answer.

Cline writes its calls as XML, aider writes files and blocks of text to be replaced. Codex writes patches, which stand
in the arguments of calls.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["PATHS", "REPLACED", "REPLACEMENTS", "Hunk", "blocks", "edits_in", "hunks", "text_calls"]

PATHS = ("path", "file_path", "filePath", "absolute_path", "file", "filename", "target_file")
"""Names of arguments that hold the path of a file."""
REPLACED = ("old_string", "oldString", "old_str", "old_text", "oldText", "search", "target_content")
"""Names of arguments that hold the text to be replaced."""
REPLACEMENTS = (
    *("new_string", "newString", "new_str", "new_text", "newText"),
    *("replace", "replacement", "replacement_content"),
)
"""Names of arguments that hold the text that replaces another."""

_CALL = re.compile(r"<([a-z]+(?:_[a-z]+)+)>\s*(?=<[a-z_]+>)(.*?)</\1>", re.DOTALL)
_PARAMETER = re.compile(r"\s*<([a-z_]+)>")
_BLOCK = re.compile(
    r"^[<-]{5,} *SEARCH>? *\n(.*?)^={5,} *\n(.*?)^[>+]{5,} *REPLACE>? *$",
    re.MULTILINE | re.DOTALL,
)
_FENCE = re.compile(r"^`{3,}\S* *$")
_NAMED = re.compile(r"^[#*` ]*([\w./\\-]+\.\w{1,10}|[\w./\\-]*/[\w.-]+)[*`: ]*$")
_FILE = re.compile(r"^([^\n]+)\n(`{3,})\S* *\n(.*?)^\2 *$", re.MULTILINE | re.DOTALL)


def text_calls(content: str) -> list[tuple[str, dict[str, str]]]:
    """Return name and arguments of the calls in a text: Cline's elements, then aider's blocks and files.

    Args:
        content: The text of an answer.
    """
    found = [(match[1], _parameters(match[2])) for match in _CALL.finditer(content)]
    rest = _CALL.sub("", content)
    path = ""
    end = 0
    for match in _BLOCK.finditer(rest):
        path = _path_before(rest[end : match.start()]) or path
        end = match.end()
        found.append(("SEARCH block", {"path": path, "search": match[1], "replace": match[2]}))
    for match in _FILE.finditer(_BLOCK.sub("", rest)):
        named = _NAMED.match(match[1])
        if named and match[3].strip():
            found.append(("file", {"path": named[1], "content": match[3]}))
    return found


def _parameters(body: str) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while match := _PARAMETER.match(body, at):
        name = match[1]
        close = f"</{name}>"
        # a file may itself contain the closing tag, as Cline knows
        end = body.rfind(close) if name in ("content", "diff") else body.find(close, match.end())
        end = len(body) if end < match.end() else end
        found[name] = body[match.end() : end].removeprefix("\n").removesuffix("\n")
        at = end + len(close)
    return found


def _path_before(text: str) -> str:
    """Return the path that stands in front of a block, with or without a fence between them."""
    lines = [line for line in text.splitlines() if line.strip() and not _FENCE.match(line)]
    named = _NAMED.match(lines[-1]) if lines else None
    return named[1] if named else ""


def blocks(text: str) -> list[tuple[str, str]]:
    """Return the texts to be replaced and their replacements in a text of SEARCH/REPLACE blocks."""
    return [(match[1], match[2]) for match in _BLOCK.finditer(text if text.endswith("\n") else text + "\n")]


@dataclass(frozen=True)
class Hunk:
    """One change of a patch.

    Attributes:
        path: The file.
        old: The lines that the file has, each with its line end.
        new: The lines that take their place.
        adds_file: Whether the new lines are a whole new file.
    """

    path: str
    old: str
    new: str
    adds_file: bool


def hunks(text: str) -> Iterator[Hunk]:
    """Read the changes that a Codex patch or a unified diff makes to files; any other text makes none."""
    start = text.find("*** Begin Patch")
    if start >= 0:
        yield from _codex_hunks(text[start:].splitlines())
    elif re.search(r"^--- .*\n\+\+\+ .*\n@@ ", text, re.MULTILINE):
        yield from _unified_hunks(text.splitlines())


def _codex_hunks(lines: list[str]) -> Iterator[Hunk]:
    path, adds, body = "", False, list[str]()
    for line in [*lines, "*** End Patch"]:
        if not line.startswith(("***", "@@")):
            body.append(line)
            continue
        yield from _hunk(path, body, adds_file=adds)
        body = []
        action = re.match(r"\*\*\* (Add|Update|Delete) File: (.+)", line)
        if action:
            path, adds = action[2].strip(), action[1] == "Add"
        if line.startswith("*** End Patch"):
            return


def _unified_hunks(lines: list[str]) -> Iterator[Hunk]:
    path, adds, inside, body = "", False, False, list[str]()
    for at, line in enumerate([*lines, "@@ "]):
        header = line.startswith("--- ") and lines[at + 1 : at + 2] != [] and lines[at + 1].startswith("+++ ")
        if header or line.startswith(("@@ ", "diff --git ")):
            if inside:
                yield from _hunk(path, body, adds_file=adds)
            inside, body = line.startswith("@@ "), []
            adds = line.startswith("--- /dev/null") if header else adds
        elif not inside and line.startswith("+++ "):
            path = line[4:].split("\t")[0].strip().removeprefix("b/")
        elif inside and not line.startswith("\\"):
            body.append(line)


def _hunk(path: str, body: list[str], *, adds_file: bool) -> Iterator[Hunk]:
    # agents leave out the space in front of empty lines
    old = "".join(line[1:] + "\n" for line in body if line[:1] in ("-", " ", ""))
    new = "".join(line[1:] + "\n" for line in body if line[:1] in ("+", " ", ""))
    if body:
        yield Hunk(path, "" if adds_file else old, new, adds_file)


def edits_in(arguments: Any) -> bool:
    """Return whether the arguments of a call edit a file."""
    if isinstance(arguments, Mapping):
        return any(name in arguments for name in (*REPLACED, *REPLACEMENTS)) or any(map(edits_in, arguments.values()))
    if isinstance(arguments, list | tuple):
        return any(map(edits_in, arguments))
    return isinstance(arguments, str) and bool(blocks(arguments) or next(hunks(arguments), None))
