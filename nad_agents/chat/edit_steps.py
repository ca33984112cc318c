"""Compare the steps of coding agents, and find those that cannot be carried out.

The module knows the edits of Cline (``replace_in_file``, ``write_to_file``), opencode (``edit``, ``write``,
``multiedit``), Codex (``apply_patch``, also in a shell's command), Qwen Code (``edit``, ``replace``, ``write_file``)
and aider (blocks and files in the text). It runs nothing: it parses the code, and looks for the text that an edit
replaces in what the conversation has shown.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

from nad_agents.chat.python_code import is_no_python, normal_code, normal_text
from nad_agents.chat.shell_commands import breaks_python_in_command, normal_command
from nad_agents.chat.shown_text import ShownText, message_calls
from nad_agents.chat.text_calls import PATHS, REPLACED, REPLACEMENTS, blocks, hunks, text_calls
from nad_agents.chat.tool_arguments import ArgumentsError, fitting_arguments

__all__ = ["call_key", "last_look", "schema_fault", "step_fault", "step_key"]

_WRITTEN = ("content", "file_text", "contents", "code", "new_source")
"""Names of arguments that hold a whole file."""
_EXACT = ("old_string", "old_str", "old_text")
"""Names of arguments that hold the text to be replaced in tools that need its indentation."""
_COMMANDS = ("command", "cmd")
"""Names of arguments that hold a shell's command."""
_SHELL_TOOL = re.compile(r"bash|shell|terminal|(exec|execute|run)_command", re.IGNORECASE)
_REASONS = ("description", "justification", "explanation")
"""Names of arguments in which a shell's tool is told what the command is for."""
_PYTHON = (".py", ".pyi")
_LOOK = re.compile(r"(^|_)(read|view|list|ls|glob|grep|search)($|_)", re.IGNORECASE)
"""Names of tools that look at something and change nothing."""


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
    written (1 and 1.0), in the form of a path, in the form of Python code (comments, blank lines and quotes), in the
    form of a shell's command (quotes, spaces between words and comments), or in what a shell's tool is told of why.

    Args:
        name: Name of the tool.
        arguments: The arguments.
        exclude_args: Names of arguments that make no difference.
    """
    kept: dict[str, Any] = {key: value for key, value in arguments.items() if key not in exclude_args}
    if _SHELL_TOOL.search(name) and any(command in kept for command in _COMMANDS):
        kept = {key: value for key, value in kept.items() if key not in _REASONS}
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
    if name in _COMMANDS and (command := _command(value)):
        return normal_command(command)
    if isinstance(value, Mapping):
        return _normal_arguments(value, path)
    if isinstance(value, list | tuple):
        return [_normal(name, part, path) for part in value]
    return _normal_string(name, value, path) if isinstance(value, str) else value


def _command(value: Any) -> str | list[str] | None:
    """Return a shell's command, as a text or as a program with its arguments; None for anything else."""
    if isinstance(value, str):
        return value
    return value if isinstance(value, list) and all(isinstance(part, str) for part in value) else None


def _normal_string(name: str, value: str, path: str | None) -> str | list[list[str]]:
    if name in PATHS:
        return posixpath.normpath(value)
    if found := blocks(value):
        return [[normal_text(old), str(_normal_string("replace", new, path))] for old, new in found]
    if name in REPLACED or (path is not None and not path.endswith(_PYTHON)):
        return normal_text(value)
    known_code = name in _WRITTEN or (path is not None and name in REPLACEMENTS)
    return normal_code(value, known_code=known_code) if known_code or "\n" in value else value


def last_look(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the `step_key` of the last step of a conversation in OpenAI's form, if all its calls only look.

    Looking at the same once more, before anything else has happened, shows nothing new.

    Args:
        messages: The conversation.

    Returns:
        The key; empty if the last step did something else.
    """
    last: Mapping[str, Any] = next(
        (message for message in reversed(messages) if message.get("role") == "assistant"), {}
    )
    content = last.get("content") if isinstance(last.get("content"), str) else ""
    calls = [(name, arguments if isinstance(arguments, Mapping) else {}) for name, arguments in message_calls(last)]
    names = [name for name, _ in (*calls, *text_calls(content or ""))]
    return step_key(content or "", calls) if all(map(_LOOK.search, names)) else ""


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
        if name in _COMMANDS and (command := _command(value)) and breaks_python_in_command(command):
            fault = f"the Python in {name!r} does not parse"
        elif replaces and name in REPLACED and isinstance(value, str):
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
    return path.endswith(_PYTHON) and is_no_python(source)
