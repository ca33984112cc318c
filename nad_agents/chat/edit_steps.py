"""Compare the steps of coding agents, and find those that cannot be carried out.

The module knows the edits of Cline (``replace_in_file``, ``write_to_file``), opencode (``edit``, ``write``,
``multiedit``), Codex (``apply_patch``, also in a shell's command), Qwen Code (``edit``, ``replace``, ``write_file``)
and aider (blocks and files in the text). It runs nothing: it parses the code, and looks for the text that an edit
replaces in what the conversation has shown.
"""

from __future__ import annotations

import ast
import json
import posixpath
import textwrap
import warnings
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from itertools import chain
from typing import Any

from nad_agents.chat.shown_text import ShownText
from nad_agents.chat.text_calls import PATHS, REPLACED, REPLACEMENTS, blocks, hunks, text_calls
from nad_agents.chat.tool_arguments import ArgumentsError, fitting_arguments

__all__ = ["call_key", "schema_fault", "step_fault", "step_key"]

_WRITTEN = ("content", "file_text", "contents", "code", "new_source")
"""Names of arguments that hold a whole file."""
_EXACT = ("old_string", "old_str", "old_text")
"""Names of arguments that hold the text to be replaced in tools that need its indentation."""
_PYTHON = (".py", ".pyi")
_LONGEST_CODE = 1 << 18


def step_key(
    content: str, calls: Iterable[tuple[str, Mapping[str, Any]]], *, exclude_args: Collection[str] = ()
) -> str:
    """Return a step as text that is the same for steps which do the same; a step without calls and edits is empty.

    Args:
        content: The text of the answer, in which Cline's calls and aider's edits are looked for.
        calls: Name and arguments of each call.
        exclude_args: Names of arguments that make no difference.
    """
    return " ".join(call_key(name, arguments, exclude_args) for name, arguments in (*calls, *text_calls(content)))


def call_key(name: str, arguments: Mapping[str, Any], exclude_args: Collection[str] = ()) -> str:
    """Return a call as text that is the same for calls which do the same.

    Two calls do the same if they differ in excluded arguments only, in the order of arguments, in how a number is
    written (1 and 1.0), in the form of a path, or in the form of Python code: comments, blank lines and quotes.

    Args:
        name: Name of the tool.
        arguments: The arguments.
        exclude_args: Names of arguments that make no difference.
    """
    kept: dict[str, Any] = {key: value for key, value in arguments.items() if key not in exclude_args}
    with suppress(RecursionError):
        kept = _normal_arguments(kept)
    written = json.dumps([name, kept], ensure_ascii=False, default=str)
    # the JSON decoder copes with any nesting that the arguments were read with
    return json.dumps(json.loads(written, parse_float=_number), sort_keys=True, ensure_ascii=False)


def _number(written: str) -> int | float:
    """Return a JSON number, as an integer where it is one."""
    number = float(written)
    return int(number) if number.is_integer() else number


def _normal_arguments(arguments: Mapping[str, Any], path: str | None = None) -> dict[str, Any]:
    path = next((arguments[name] for name in PATHS if isinstance(arguments.get(name), str)), path)
    return {str(name): _normal(name, value, path) for name, value in arguments.items()}


def _normal(name: str, value: Any, path: str | None) -> Any:
    """Return a value in a form that is the same for values which mean the same."""
    if isinstance(value, Mapping):
        return _normal_arguments(value, path)
    if isinstance(value, list | tuple):
        return [_normal(name, part, path) for part in value]
    return _normal_string(name, value, path) if isinstance(value, str) else value


def _normal_string(name: str, value: str, path: str | None) -> str | list[list[str]]:
    if name in PATHS:
        return posixpath.normpath(value)
    if found := blocks(value):
        return [[_normal_text(old), str(_normal_string("replace", new, path))] for old, new in found]
    if name in REPLACED or (path is not None and not path.endswith(_PYTHON)):
        return _normal_text(value)
    known_code = name in _WRITTEN or (path is not None and name in REPLACEMENTS)
    return _normal_code(value, known_code=known_code) if known_code or "\n" in value else value


def _normal_text(text: str) -> str:
    return "\n".join(map(str.rstrip, text.strip("\r\n").splitlines()))


def _normal_code(text: str, *, known_code: bool) -> str:
    """Return code as its syntax tree and indentation, and other text without white space at the ends of lines."""
    try:
        body = _parse(textwrap.dedent(text)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _normal_text(text)
    # prose with one word per line parses as Python too, but it is not code
    if not body or not (known_code or any(not isinstance(node, ast.Expr) for node in body)):
        return _normal_text(text)
    first = next(line for line in text.splitlines() if line.strip())
    return f"{len(first) - len(first.lstrip())} {ast.dump(ast.Module(body, []))}"


def _parse(source: str) -> ast.Module:
    if len(source) > _LONGEST_CODE:
        raise MemoryError
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source.removeprefix("\ufeff"))


def _is_no_python(source: str) -> bool:
    """Return whether a text is no Python; False for what is too long or too deep to tell."""
    try:
        _parse(source)
    except (RecursionError, MemoryError):
        return False
    except (SyntaxError, ValueError):
        return True
    return False


def step_fault(
    content: str,
    calls: Iterable[tuple[str, Mapping[str, Any]]],
    *,
    shown: ShownText,
    schemas: Mapping[str, Mapping[str, Any]] | None = None,
) -> str | None:
    """Return why a step cannot be carried out, in words; None if no obstacle is known.

    Args:
        content: The text of the answer, in which Cline's calls and aider's edits are looked for.
        calls: Name and arguments of each call.
        shown: What the conversation has shown.
        schemas: JSON schema of the arguments by the tool's name.
    """
    for name, arguments in (*calls, *text_calls(content)):
        fault = schema_fault(arguments, (schemas or {}).get(name, {}))
        # no edit is nested too deeply to be read
        with suppress(RecursionError):
            fault = fault or _edit_fault(arguments, shown, path="code.py" if "python" in name.lower() else "")
        if fault is not None:
            return f"{name}: {fault}"
    return None


def schema_fault(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> str | None:
    """Return how arguments violate their schema; None if they do not, or if the violation can be repaired.

    Args:
        arguments: Arguments of a call.
        schema: JSON schema of the arguments.
    """
    try:
        fitting_arguments(arguments, schema)
    except ArgumentsError as error:
        return str(error)
    return None


def _edit_fault(arguments: Mapping[str, Any], shown: ShownText, *, path: str = "") -> str | None:
    """Return why an edit cannot be applied: its Python does not parse, or the text that it replaces was not shown.

    Args:
        arguments: The arguments of the call; edits may be nested in them.
        shown: What the conversation has shown.
        path: The file that is edited if the arguments name none.
    """
    path = next((arguments[name] for name in PATHS if isinstance(arguments.get(name), str)), path)
    replaces = any(name in arguments for name in (*REPLACEMENTS, "oldString", "oldText", *_EXACT))
    new = next((arguments[name] for name in REPLACEMENTS if isinstance(arguments.get(name), str)), "")
    for name, value in arguments.items():
        fault = None
        if replaces and name in REPLACED and isinstance(value, str):
            fault = _change_fault(path, value, new, shown, f"the text in {name!r} is", exact=name in _EXACT)
        fault = fault or _value_fault(name, value, path, shown)
        if fault is not None:
            return fault
    return None


def _change_fault(path: str, old: str, new: str, shown: ShownText, what: str, *, exact: bool = False) -> str | None:
    """Return why a text cannot take the place of another; an empty old text makes a new file."""
    if not old.strip():
        return f"the Python of the new file {path!r} does not parse" if _breaks_python(path, new) else None
    return None if shown.has(old, ignore_indentation=not exact) else f"{what} nowhere in the conversation"


def _value_fault(name: str, value: Any, path: str, shown: ShownText) -> str | None:
    if isinstance(value, Mapping):
        return _edit_fault(value, shown, path=path)
    if isinstance(value, list | tuple):
        faults = (_value_fault(name, part, path, shown) for part in value)
        return next((fault for fault in faults if fault is not None), None)
    return _string_fault(name, value, path, shown) if isinstance(value, str) else None


def _string_fault(name: str, value: str, path: str, shown: ShownText) -> str | None:
    if name in _WRITTEN and _breaks_python(path, value):
        return f"the Python in {name!r} does not parse"
    faults = chain(
        (_change_fault(path, old, new, shown, "the text of a SEARCH block is") for old, new in blocks(value)),
        (
            # lines that are added to a file need not be a program
            _change_fault(h.path, h.old, h.new if h.adds_file else "", shown, "the lines that the patch changes are")
            for h in hunks(value)
        ),
    )
    return next((fault for fault in faults if fault is not None), None)


def _breaks_python(path: str, source: str) -> bool:
    return path.endswith(_PYTHON) and _is_no_python(source)
