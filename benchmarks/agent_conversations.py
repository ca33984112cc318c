"""Conversations of coding agents that have read a file and have to change it, and what their edits do to the file.

The files are functions of Python's standard library. Each agent shows a file and describes its edits in its own form.
"""

from __future__ import annotations

import ast
import calendar
import colorsys
import fnmatch
import html
import inspect
import json
import re
import shlex
import statistics
import string
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Call = tuple[str, Mapping[str, Any]]

TASKS: tuple[tuple[str, tuple[Callable[..., Any], ...], str], ...] = (
    (
        "dates.py",
        (calendar.isleap, calendar.leapdays, calendar.monthrange),
        "monthrange should raise a ValueError if the year is below 1.",
    ),
    (
        "colors.py",
        (colorsys.rgb_to_yiq, colorsys.yiq_to_rgb, colorsys.rgb_to_hsv),
        "rgb_to_hsv should raise a ValueError if r, g or b is not between 0.0 and 1.0.",
    ),
    (
        "text.py",
        (textwrap.dedent, textwrap.indent, string.capwords),
        "capwords should leave words that are written in capitals altogether, such as NASA, as they are.",
    ),
    (
        "medians.py",
        (statistics.median, statistics.median_low, statistics.median_high),
        "median_low and median_high should take an argument `default=None`, which they return for empty data if it is "
        "not None.",
    ),
    (
        "markup.py",
        (html.escape, html.unescape, textwrap.shorten),
        "escape should replace line ends by <br> if a new argument `newlines=False` is true.",
    ),
    (
        "patterns.py",
        (fnmatch.fnmatch, fnmatch.filter, shlex.join),
        "Add a function `exclude(names, pat)`, which returns the names that do not match, right after filter.",
    ),
)


def _tool(name: str, description: str, **properties: str) -> dict[str, Any]:
    optional = {"replace_all", "replaceAll"}
    schema = {
        "type": "object",
        "properties": {
            key: {"type": "boolean" if key in optional else "string", "description": text}
            for key, text in properties.items()
        },
        "required": [key for key in properties if key not in optional],
    }
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


_BLOCK = "<<<<<<< SEARCH\n[lines of the file, copied exactly]\n=======\n[new lines]\n>>>>>>> REPLACE"
_DASHED_BLOCK = _BLOCK.replace("<<<<<<<", "-------").replace(">>>>>>>", "+++++++")
_PATCH = "*** Begin Patch\n*** Update File: path\n@@\n context line\n-old line\n+new line\n*** End Patch"


def _plain(source: str) -> str:
    return source


def _numbered(source: str) -> str:
    return "<file>\n" + "\n".join(f"{i:05d}| {line}" for i, line in enumerate(source.splitlines(), 1)) + "\n</file>"


@dataclass(frozen=True)
class Agent:
    """The form in which an agent shows files and takes edits.

    Attributes:
        system: System message.
        tools: Tools in OpenAI's form; none if edits stand in the text.
        reads: The call that reads a file, with "{name}" for the file's name.
        shows: How a file is shown.
    """

    system: str
    tools: tuple[dict[str, Any], ...]
    reads: tuple[str, dict[str, str]] | None
    shows: Callable[[str], str] = _plain


_SYSTEM = "You are a coding agent. You change files with the tools, one small edit at a time. Use one tool per message."
AGENTS: dict[str, Agent] = {
    "Cline": Agent(
        _SYSTEM,
        (
            _tool("read_file", "Read a file.", path="Path of the file."),
            _tool("write_to_file", "Write a whole file.", path="Path of the file.", content="The whole content."),
            _tool(
                "replace_in_file",
                "Replace parts of a file.",
                path="Path of the file.",
                diff=f"One or more blocks of the form\n{_DASHED_BLOCK}",
            ),
        ),
        ("read_file", {"path": "{name}"}),
    ),
    "opencode": Agent(
        _SYSTEM,
        (
            _tool("read", "Read a file.", filePath="Path of the file."),
            _tool("write", "Write a whole file.", filePath="Path of the file.", content="The whole content."),
            _tool(
                "edit",
                "Replace text in a file. oldString must be copied exactly, without line numbers, and occur once.",
                filePath="Path of the file.",
                oldString="The text to replace.",
                newString="The new text.",
                replaceAll="Replace all occurrences.",
            ),
        ),
        ("read", {"filePath": "{name}"}),
        _numbered,
    ),
    "Codex": Agent(
        _SYSTEM,
        (
            _tool("shell", "Run a command.", command="The command."),
            _tool("apply_patch", "Change files with a patch.", input=f"A patch of the form\n{_PATCH}"),
        ),
        ("shell", {"command": "cat {name}"}),
    ),
    "Qwen Code": Agent(
        _SYSTEM,
        (
            _tool("read_file", "Read a file.", file_path="Path of the file."),
            _tool("write_file", "Write a whole file.", file_path="Path of the file.", content="The whole content."),
            _tool(
                "edit",
                "Replace text in a file. old_string must be copied exactly and occur once.",
                file_path="Path of the file.",
                old_string="The text to replace.",
                new_string="The new text.",
                replace_all="Replace all occurrences.",
            ),
        ),
        ("read_file", {"file_path": "{name}"}),
    ),
    "aider": Agent(
        "Act as an expert software developer. Describe each change to a file with a block: the file's name alone on a "
        f"line, then in a code fence\n{_BLOCK}\nThe SEARCH part must be lines of the file, copied exactly.",
        (),
        None,
    ),
}


@dataclass(frozen=True)
class Conversation:
    """A conversation up to the step that is sampled.

    Attributes:
        name: Agent and file.
        file: Name of the file.
        source: Content of the file.
        messages: Messages in OpenAI's form.
        tools: Tools in OpenAI's form.
    """

    name: str
    file: str
    source: str
    messages: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...]


def conversations() -> Iterator[Conversation]:
    """Yield a conversation for every task and agent; the agents take turns."""
    for name, functions, request in TASKS:
        source = "\n\n".join(inspect.getsource(function) for function in functions)
        for agent_name, agent in AGENTS.items():
            messages: list[dict[str, Any]] = [{"role": "system", "content": agent.system}]
            if agent.reads is None:
                messages.append({"role": "user", "content": f"{name}\n```python\n{source}```\n\n{request}"})
            else:
                tool, arguments = agent.reads
                filled = {key: value.format(name=name) for key, value in arguments.items()}
                call = {"name": tool, "arguments": json.dumps(filled)}
                messages += [
                    {"role": "user", "content": f"{request} It is in {name}."},
                    {
                        "role": "assistant",
                        "content": "",
                        "tool_calls": [{"id": "call_0", "type": "function", "function": call}],
                    },
                    {"role": "tool", "tool_call_id": "call_0", "content": agent.shows(source)},
                ]
            yield Conversation(f"{agent_name}, {name}", name, source, tuple(messages), agent.tools)


# --- what an edit does ---

_BLOCKS = re.compile(r"^[<-]{5,}\s*SEARCH>?\s*\n(.*?)^={5,}\s*\n(.*?)^[>+]{5,}\s*REPLACE", re.MULTILINE | re.DOTALL)


class EditError(Exception):
    """An edit cannot be carried out."""


def changed_file(conversation: Conversation, content: str, calls: Sequence[Call]) -> str | None:
    """Return the file of a conversation as the agent's own tools, which are strict, would leave it after a step.

    Args:
        conversation: The conversation.
        content: Text of the answer.
        calls: Name and arguments of each call.

    Returns:
        The file afterwards; None if the step changes no file, such as reading one again or mere text.

    Raises:
        EditError: The text to be replaced is not in the file or not unique, the file is another one, or what comes out
            is no Python.
    """
    source, changed = conversation.source, False
    for name, arguments in calls:
        texts = {key: value for key, value in arguments.items() if isinstance(value, str)}
        path = texts.get("path") or texts.get("filePath") or texts.get("file_path") or conversation.file
        before = source
        if name in ("write_to_file", "write", "write_file"):
            source = texts.get("content", "")
        elif name == "edit":
            old, new = (texts.get(f"{side}String", texts.get(f"{side}_string", "")) for side in ("old", "new"))
            everywhere = bool(arguments.get("replaceAll", arguments.get("replace_all")))
            source = _replaced(source, old, new, everywhere=everywhere)
        elif name == "replace_in_file":
            source = _with_blocks(source, texts.get("diff", ""))
        elif name == "apply_patch":
            source, path = _patched(source, texts.get("input", ""))
        else:
            continue
        if path.rsplit("/", 1)[-1] != conversation.file or source == before:
            raise EditError("another file, or no change")
        changed = True
    if not calls and "SEARCH" in content:
        source, changed = _with_blocks(source, content), True
    if changed:
        try:
            ast.parse(source)
        except (SyntaxError, ValueError) as error:
            raise EditError("the new file does not parse") from error
    return source if changed else None


def _replaced(source: str, old: str, new: str, *, everywhere: bool = False) -> str:
    """Replace a text that occurs once, ignoring white space at both ends of lines where it does not occur exactly."""
    count = source.count(old) if old else 0
    if count == 1 or (everywhere and count):
        return source.replace(old, new)
    wanted, lines = [line.strip() for line in old.strip("\n").splitlines()], source.splitlines()
    places = [i for i in range(len(lines)) if wanted and [s.strip() for s in lines[i : i + len(wanted)]] == wanted]
    if count or len(places) != 1:
        raise EditError("the text to be replaced is not in the file, or more than once")
    return "\n".join([*lines[: places[0]], *new.strip("\n").splitlines(), *lines[places[0] + len(wanted) :]]) + "\n"


def _with_blocks(source: str, text: str) -> str:
    blocks = _BLOCKS.findall(text)
    if not blocks:
        raise EditError("no whole block")
    for old, new in blocks:
        source = _replaced(source, old, new)
    return source


def _patched(source: str, patch: str) -> tuple[str, str]:
    if not patch.strip().startswith("*** Begin Patch") or "*** End Patch" not in patch:
        raise EditError("no whole patch")
    path, hunks = "", []
    for line in patch.strip().splitlines():
        if line.startswith("*** Update File: "):
            path = line.partition(": ")[2].strip()
        elif line.startswith("@@"):
            hunks.append(([], []))
        elif not line.startswith("***"):
            hunks = hunks or [([], [])]
            if line[:1] in ("-", " ", ""):
                hunks[-1][0].append(line[1:])
            if line[:1] in ("+", " ", ""):
                hunks[-1][1].append(line[1:])
    for old, new in hunks:
        source = _replaced(source, "\n".join(old) + "\n", "\n".join(new) + "\n")
    return source, path
