"""Compare shell commands: which do the same, and which carry Python that does not parse.

Nothing is expanded or run, and what is not understood is compared as it is written.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from typing import Literal

from nad_agents.chat.python_code import is_no_python, normal_code, normal_text
from nad_agents.chat.shell_tokens import ShellToken, shell_tokens

__all__ = ["breaks_python_in_command", "normal_command"]

_SEPARATORS = frozenset((";", ";;", "|", "||", "&", "&&", "(", ")"))
_SHELL = re.compile(r"(ba|z|da|k)?sh")
_SHELL_OPTION = re.compile(r"-[a-z]*c")
_PYTHON = re.compile(r"python[\d.]*")
_WRAPPERS = frozenset(("sudo", "env", "time", "exec", "uv", "poetry", "pipenv", "run"))
"""Words in front of a program that run it."""
_ASSIGNMENT = re.compile(r"\w+=")


def _python_in(tokens: Sequence[ShellToken]) -> Iterator[ShellToken]:
    """Yield the tokens that are Python: arguments of `-c`, and documents that Python reads or that become its files."""
    start = 0
    for end in (*(i for i, token in enumerate(tokens) if _separates(token)), len(tokens)):
        part, start = tokens[start:end], end + 1
        words, files = _words_and_files(part)
        if not words:
            continue
        is_read = False
        if _is_python(words[0].text):
            code, is_read = _what_python_runs(words[1:])
            if code is not None:
                yield code
        elif words[0].text == "tee" and all(word.text != "-a" for word in words):
            files += [word.text or "" for word in words[1:]]
        if is_read or any(file.endswith(".py") for file in files):
            yield from (token for token in part if token.kind == "document" and token.text is not None)


def _words_and_files(part: Sequence[ShellToken]) -> tuple[list[ShellToken], list[str]]:
    """Return a command's program and arguments, and the files that its output replaces."""
    words: list[ShellToken] = []
    files: list[str] = []
    for before, token in zip((None, *part), part, strict=False):
        if token.kind == "word" and before is not None and before.kind == "operator":
            files += [token.text or ""] if before.form == ">" else []
        elif token.kind == "word" and not _ASSIGNMENT.match(token.form):
            words.append(token)
    while words and words[0].text in _WRAPPERS:
        words.pop(0)
    return words, files


def _what_python_runs(arguments: Sequence[ShellToken]) -> tuple[ShellToken | None, bool]:
    """Return the code in Python's arguments, None without any that is known, and whether Python reads its input."""
    for place, argument in enumerate(arguments):
        if argument.text == "-c":
            code = arguments[place + 1] if place + 1 < len(arguments) else None
            return (code if code is not None and code.text is not None else None), False
        if argument.text == "-":
            return None, True
        if argument.text is None or argument.text == "-m" or not argument.text.startswith("-"):
            return None, False
    return None, True


def _separates(token: ShellToken) -> bool:
    return token.kind == "operator" and token.form in _SEPARATORS


def _is_python(program: str | None) -> bool:
    return bool(_PYTHON.fullmatch(posixpath.basename(program or "")))


def _passed_on(command: Sequence[str]) -> tuple[Literal["shell", "python"], str] | None:
    """Return the code in the arguments of a program, if the program is a shell or Python and is given code."""
    if len(command) == 3 and _SHELL.fullmatch(posixpath.basename(command[0])) and _SHELL_OPTION.fullmatch(command[1]):
        return "shell", command[2]
    if len(command) >= 3 and _is_python(command[0]) and command[1] == "-c":
        return "python", command[2]
    return None


def normal_command(command: str | Sequence[str]) -> list[object]:
    """Return a command in a form that is the same for commands which do the same.

    Quotation marks, white space between words, comments and the form of Python code make no difference.

    Args:
        command: The command as a shell reads it, or the program and its arguments.
    """
    if not isinstance(command, str):
        code = _passed_on(command)
        if code is None:
            return list(command)
        kind, source = code
        form = normal_command(source) if kind == "shell" else normal_code(source, known_code=True)
        return [*command[:2], form, *command[3:]]
    tokens = shell_tokens(command)
    if tokens is None:
        return [normal_text(command)]
    python = {id(token) for token in _python_in(tokens)}
    return [
        [token.kind, normal_code(token.text or "", known_code=True) if id(token) in python else token.form]
        for token in tokens
    ]


def breaks_python_in_command(command: str | Sequence[str]) -> bool:
    """Return whether a command gives code to Python, or writes it to a file, that does not parse.

    Args:
        command: The command as a shell reads it, or the program and its arguments.
    """
    if not isinstance(command, str):
        code = _passed_on(command)
        if code is None:
            return False
        kind, source = code
        return breaks_python_in_command(source) if kind == "shell" else is_no_python(source)
    return any(is_no_python(token.text or "") for token in _python_in(shell_tokens(command) or ()))
