"""Compare the steps of coding agents, and find those that cannot be carried out.

The module knows the edits of Cline (``replace_in_file``, ``write_to_file``), opencode (``edit``, ``write``), Codex
(``apply_patch``), Qwen Code (``edit``, ``replace``, ``write_file``) and aider's blocks in the text. It runs nothing: it
parses the code, and looks for the text that an edit replaces in what the conversation has shown.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["ShownText", "call_key", "edit_fault", "schema_fault", "step_fault"]

_WRITTEN = ("content", "file_text", "contents", "code", "new_source")
"""Names of arguments that hold a whole file."""
_REPLACED = ("old_string", "oldString", "old_str", "old_text", "search", "target_content")
"""Names of arguments that hold the text to be replaced."""
_PATCHES = ("diff", "patch", "patchText", "input")
"""Names of arguments that hold blocks of text to be replaced, or a patch."""
_PATHS = ("path", "file_path", "filePath", "absolute_path", "file", "filename", "target_file")

_BLOCK = re.compile(r"^[<-]{5,}\s*SEARCH>?\s*\n(.*?)^={5,}\s*$", re.MULTILINE | re.DOTALL)
_LINE_NUMBER = re.compile(r"^\s*\d+\s*(?:[|:\t]|\u2192) ?")
_LONGEST_CODE = 1 << 18
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
    "null": (type(None),),
}


def call_key(name: str, arguments: Mapping[str, Any], exclude_args: Collection[str] = ()) -> str:
    """Return a call as text that is the same for calls which do the same.

    Two calls do the same if they differ in excluded arguments only, in the order of arguments, in how a number is
    written (1 and 1.0), or in the form of Python code: comments, blank lines and quotes.

    Args:
        name: Name of the tool.
        arguments: The arguments.
        exclude_args: Names of arguments that make no difference.
    """
    kept = {key: _normal(value) for key, value in arguments.items() if key not in exclude_args}
    written = json.dumps([name, kept], ensure_ascii=False, default=str)
    # the JSON decoder copes with any nesting that the arguments were read with
    return json.dumps(json.loads(written, parse_float=_number), sort_keys=True, ensure_ascii=False)


def _number(written: str) -> int | float:
    """Return a JSON number, as an integer where it is one."""
    number = float(written)
    return int(number) if number.is_integer() else number


def _normal(value: Any) -> Any:
    """Return code as its syntax tree, and other text without white space at the ends of lines."""
    if not isinstance(value, str) or "\n" not in value:
        return value
    tree = _parsed(value)
    # prose with one word per line parses as Python too, but it is not code
    code = tree is not None and any(not isinstance(node, ast.Expr) for node in tree.body)
    return ast.dump(tree) if tree is not None and code else "\n".join(map(str.rstrip, value.strip().splitlines()))


def _parsed(source: str) -> ast.Module | None:
    if len(source) > _LONGEST_CODE:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


@dataclass(frozen=True)
class ShownText:
    """The lines that a conversation has shown, without their line numbers.

    Attributes:
        lines: The lines, without white space at their ends.
    """

    lines: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[str]) -> ShownText:
        """Collect the lines of the messages and of the files that earlier calls wrote."""
        lines = [line.rstrip() for text in texts for line in text.splitlines()]
        return cls(tuple(lines))

    def has(self, text: str) -> bool:
        """Return whether a text's lines were shown in a row, ignoring line ends and the first line's indentation."""
        wanted = [line.rstrip() for line in text.strip("\n").splitlines()]
        if not any(line.strip() for line in wanted):
            return True
        plain = [_LINE_NUMBER.sub("", line) for line in self.lines]
        return any(_follow(wanted, lines) for lines in (self.lines, plain))


def _follow(wanted: list[str], lines: Collection[str]) -> bool:
    shown = list(lines)
    if len(wanted) == 1:
        return any(wanted[0].strip() in line for line in shown)
    first = wanted[0].strip()
    return any(
        line.strip().endswith(first) and shown[place + 1 : place + len(wanted)] == wanted[1:]
        for place, line in enumerate(shown)
    )


def step_fault(
    content: str,
    calls: Iterable[tuple[str, Mapping[str, Any]]],
    *,
    shown: ShownText,
    schemas: Mapping[str, Mapping[str, Any]] | None = None,
) -> str | None:
    """Return why a step cannot be carried out, in words; None if no obstacle is known.

    Args:
        content: The text of the answer, in which aider's blocks are looked for.
        calls: Name and arguments of each call.
        shown: What the conversation has shown.
        schemas: JSON schema of the arguments by the tool's name.
    """
    for name, arguments in calls:
        fault = schema_fault(arguments, (schemas or {}).get(name, {})) or edit_fault(arguments, shown)
        if fault is not None:
            return f"{name}: {fault}"
    return _blocks_fault(content, shown)


def schema_fault(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> str | None:
    """Return how arguments violate the outermost level of their schema; None if they do not."""
    properties = schema.get("properties") or {}
    missing = [name for name in schema.get("required") or () if name not in arguments]
    if missing:
        return f"the argument {missing[0]!r} is missing"
    for name, value in arguments.items():
        if name not in properties:
            if schema.get("additionalProperties") is False:
                return f"there is no argument {name!r}"
            continue
        expected = properties[name].get("type")
        named = [expected] if isinstance(expected, str) else expected or ()
        kinds = tuple(kind for one in named for kind in _TYPES[one])
        # JSON Schema counts 1.0 as an integer
        whole = int in kinds and isinstance(value, float) and value.is_integer()
        if kinds and not whole and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            return f"the argument {name!r} is {type(value).__name__} instead of {expected}"
        if "enum" in properties[name] and value not in properties[name]["enum"]:
            return f"the argument {name!r} is none of {properties[name]['enum']}"
    return None


def edit_fault(arguments: Mapping[str, Any], shown: ShownText) -> str | None:
    """Return why an edit cannot be applied: its Python does not parse, or the text that it replaces was not shown."""
    texts = {name: value for name, value in arguments.items() if isinstance(value, str)}
    path = next((texts[name] for name in _PATHS if name in texts), "")
    if path.endswith(".py"):
        for name in _WRITTEN:
            if name in texts and _parsed(texts[name]) is None:
                return f"the Python in {name!r} does not parse"
    for name in _REPLACED:
        # an empty text makes a new file
        if name in texts and not shown.has(texts[name]):
            return f"the text in {name!r} is nowhere in the conversation"
    for name in _PATCHES:
        if name in texts:
            fault = _blocks_fault(texts[name], shown) or _patch_fault(texts[name], shown)
            if fault is not None:
                return fault
    return None


def _blocks_fault(text: str, shown: ShownText) -> str | None:
    for block in _BLOCK.findall(text):
        if not shown.has(block):
            return "the text of a SEARCH block is nowhere in the conversation"
    return None


def _patch_fault(text: str, shown: ShownText) -> str | None:
    """Return what is wrong with a Codex patch: the conversation must have shown each hunk's old lines."""
    if "*** Begin Patch" not in text:
        return None
    old: list[str] = []
    updating = False
    for line in [*text.splitlines(), "*** End Patch"]:
        if line.startswith(("***", "@@")):
            if updating and old and not shown.has("\n".join(old)):
                return "the lines that the patch changes are nowhere in the conversation"
            old = []
            updating = line.startswith("*** Update File") or (updating and line.startswith("@@"))
        elif line[:1] in ("-", " "):
            old.append(line[1:])
    return None
