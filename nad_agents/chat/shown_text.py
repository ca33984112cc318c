"""What a conversation has shown, as lines in which the text that an edit replaces is looked for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nad_agents.chat.text_calls import edits_in, text_calls

__all__ = ["ShownText", "message_calls", "shown_text"]

_NUMBER = re.compile(r"\s*\d+(?:\s*[|:\u2502\u2192]|[\t-]|$)")
"""A line's number as agents and ``cat -n`` write it; nothing but the number is an empty line."""


@dataclass(frozen=True)
class ShownText:
    """The lines that a conversation has shown.

    Attributes:
        lines: The lines, without white space at their ends.
        edited: Whether the conversation has edited files, so that lines may now follow one another that were shown in
            different places.
    """

    lines: tuple[str, ...]
    edited: bool = False

    @classmethod
    def of(cls, texts: Iterable[str], *, edited: bool = False) -> ShownText:
        """Collect the lines of texts.

        Args:
            texts: The messages, and the files that earlier calls wrote.
            edited: Whether the conversation has edited files.
        """
        return cls(tuple(line.rstrip() for text in texts for line in text.splitlines()), edited)

    def has(self, text: str, *, ignore_indentation: bool = False) -> bool:
        """Return whether a text was shown, with or without the numbers of its lines.

        The text may begin and end within a line. White space at the ends of lines makes no difference, nor do empty
        lines around the text. After an edit it is enough that every line was shown.

        Args:
            text: The text that an edit replaces.
            ignore_indentation: Whether lines that differ in their indentation are the same, as for most agents' tools.
        """
        wanted = [line.rstrip() for line in text.strip("\r\n").splitlines()]
        if not any(wanted):
            return True
        versions = self._versions
        if ignore_indentation:
            wanted, versions = _stripped(wanted), [*map(_stripped, versions)]
        whole = text.endswith("\n")
        return any(_follow(wanted, lines, whole=whole) for lines in versions) or (self.edited and self._knows(wanted))

    @cached_property
    def _versions(self) -> list[list[str]]:
        """The lines as they are, without numbers, and without numbers and a space behind them."""
        plain, spaced = [], []
        for line in self.lines:
            number = _NUMBER.match(line)
            plain.append(line[number.end() :] if number else line)
            spaced.append(plain[-1].removeprefix(" ") if number else line)
        return [list(self.lines), plain, spaced]

    def _knows(self, wanted: Sequence[str]) -> bool:
        return all(any(line.strip() in shown for shown in self.lines) for line in wanted if line)


def _stripped(lines: Iterable[str]) -> list[str]:
    return [line.strip() for line in lines]


def _follow(wanted: Sequence[str], lines: Sequence[str], *, whole: bool) -> bool:
    """Return whether lines follow one another; the first may end a line, the last may begin one unless it is whole."""
    if len(wanted) == 1:
        return any(line.endswith(wanted[0]) if whole else wanted[0] in line for line in lines)
    last = len(wanted) - 1
    ends: Callable[[str], bool] = wanted[last].__eq__ if whole else lambda line: line.startswith(wanted[last])
    return any(
        lines[at].endswith(wanted[0]) and lines[at + 1 : at + last] == wanted[1:last] and ends(lines[at + last])
        for at in range(len(lines) - last)
    )


def shown_text(messages: Sequence[Mapping[str, Any]]) -> ShownText:
    """Collect what a conversation in OpenAI's form has shown: every text, and the arguments of earlier calls.

    Texts that are JSON, such as a tool's output, also count as the texts in it.
    """
    texts: list[str] = []
    edited = False
    for message in messages:
        texts.extend(_texts(message.get("content")))
        if message.get("role") != "assistant":
            continue
        calls = [arguments for _, arguments in message_calls(message)]
        for arguments in calls:
            texts.extend(_texts(arguments))
        written = [arguments for text in _texts(message.get("content")) for _, arguments in text_calls(text)]
        edited = edited or any(map(edits_in, (*calls, *written)))
    return ShownText.of(texts, edited=edited)


def message_calls(message: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return name and arguments of the tool calls of a message in OpenAI's form; arguments that are no JSON as text."""
    functions = [call["function"] for call in message.get("tool_calls") or ()]
    return [(function["name"], _read(function["arguments"])) for function in functions]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        inner = _read(value) if value.lstrip().startswith(("{", "[")) else None
        if not isinstance(inner, str):
            yield from _texts(inner)
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


def _read(text: Any) -> Any:
    """Return the value of a JSON text; anything else as it is."""
    try:
        return json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        return text
