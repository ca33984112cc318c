"""Compare shell commands: which do the same, and which carry Python that does not parse.

A command is divided as POSIX shells divide it. Nothing is expanded or run, and what is not understood is compared as
it is written.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from nad_agents.chat.python_code import is_no_python, normal_code, normal_text

__all__ = ["breaks_python_in_command", "normal_command"]

_OPERATOR = re.compile(r"<<<|<<-|&>>|<<|>>|&&|\|\||;;|>\||<>|&>|[<>]&|[;|&<>()]")
_SEPARATORS = frozenset((";", ";;", "|", "||", "&", "&&", "(", ")"))
_PLAIN = re.compile(r"[\w./:,+%@-]")
"""Characters that a shell takes as they are, whether they are quoted or not."""
_SHELL = re.compile(r"(ba|z|da|k)?sh")
_SHELL_OPTION = re.compile(r"-[a-z]*c")
_PYTHON = re.compile(r"python[\d.]*")
_WRAPPERS = frozenset(("sudo", "env", "time", "exec", "uv", "poetry", "pipenv", "run"))
"""Words in front of a program that run it."""
_ASSIGNMENT = re.compile(r"\w+=")


class _NotUnderstoodError(Exception):
    """The command uses a form that is not read here, or ends within a quotation."""


@dataclass
class _Token:
    """A word, an operator or the text of a here-document.

    Attributes:
        kind: What the token is.
        form: The token, written in the same way however it was quoted.
        text: The text that the shell passes on; None if it depends on what is expanded.
    """

    kind: Literal["word", "operator", "document"]
    form: str = ""
    text: str | None = ""
    quoted: bool = False

    def add(self, character: str, *, quoted: bool) -> None:
        """Append a character, with its meaning for the shell."""
        self.quoted = self.quoted or quoted
        self.form += character if not quoted or _PLAIN.match(character) else f"\\{character}"
        if self.text is not None:
            self.text += character

    def add_expansion(self, character: str, *, quoted: bool) -> None:
        """Append the beginning of an expansion, whose result is not known."""
        self.form += f'"{character}' if quoted else character
        self.text = None


@dataclass
class _Reader:
    """Divides a command into tokens, from its beginning to its end."""

    source: str
    at: int = 0
    tokens: list[_Token] = field(default_factory=list)
    word: _Token | None = None
    documents: list[tuple[_Token, _Token, bool]] = field(default_factory=list)

    def read(self) -> list[_Token]:
        """Return the tokens.

        Raises:
            _NotUnderstoodError: The command is not understood.
        """
        while self.at < len(self.source):
            self._step(self.source[self.at])
        self._end_word()
        if self.documents:
            raise _NotUnderstoodError
        while self.tokens and self.tokens[-1].form == ";":
            self.tokens.pop()
        return self.tokens

    def _step(self, character: str) -> None:
        operator = _OPERATOR.match(self.source, self.at)
        if character in " \t\r":
            self._end_word()
            self.at += 1
        elif self.source.startswith("\\\n", self.at):
            self.at += 2
        elif character == "\n":
            self._end_line()
        elif character == "#" and self.word is None:
            end = self.source.find("\n", self.at)
            self.at = len(self.source) if end < 0 else end
        elif operator:
            self._read_operator(operator[0])
        else:
            # what follows a command's result at once belongs to it
            self.word = self.word or _Token("word", ")" if self.source[self.at - 1 : self.at] == ")" else "")
            self._read_part(self.word, character)

    def _end_word(self) -> None:
        if self.word is None:
            return
        before = self.tokens[-1] if self.tokens else None
        if before is not None and before.kind == "operator" and before.form.endswith(("<<", "<<-")):
            document = _Token("document")
            self.documents.append((document, self.word, before.form.endswith("-")))
            self.tokens.append(document)
        else:
            self.tokens.append(self.word)
        self.word = None

    def _end_line(self) -> None:
        self._end_word()
        self.at += 1
        for document, mark, without_tabs in self.documents:
            self._read_document(document, mark, without_tabs=without_tabs)
        self.documents.clear()
        # an empty line ends nothing, and an operator that waits for a command goes on in the next line
        if self.tokens and (self.tokens[-1].kind != "operator" or self.tokens[-1].form == ")"):
            self.tokens.append(_Token("operator", ";"))

    def _read_operator(self, operator: str) -> None:
        number = ""
        if self.word is not None and operator[0] in "<>" and self.word.form.isdecimal() and not self.word.quoted:
            # the number of a file, as in 2>
            number, self.word = self.word.form, None
        self._end_word()
        self.tokens.append(_Token("operator", number + operator))
        self.at += len(operator)

    def _read_part(self, word: _Token, character: str) -> None:
        """Read a character of a word, or a quotation in it."""
        self.at += 1
        if character == "\\":
            word.add(self._following(), quoted=True)
        elif character == "'":
            end = self.source.find("'", self.at)
            if end < 0:
                raise _NotUnderstoodError
            word.quoted = True
            for inner in self.source[self.at : end]:
                word.add(inner, quoted=True)
            self.at = end + 1
        elif character == '"':
            self._read_double_quotes(word)
        elif character in "$`":
            word.add_expansion(character, quoted=False)
        else:
            word.add(character, quoted=False)

    def _read_double_quotes(self, word: _Token) -> None:
        word.quoted = True
        while (character := self._following()) != '"':
            if character == "\\" and self.source[self.at : self.at + 1] in ("$", "`", '"', "\\", "\n"):
                following = self._following()
                if following != "\n":
                    word.add(following, quoted=True)
            elif character == "`" or (character == "$" and self.source[self.at : self.at + 1] == "("):
                # a command within the quotation has quotations of its own
                raise _NotUnderstoodError
            elif character == "$":
                word.add_expansion(character, quoted=True)
            else:
                word.add(character, quoted=True)

    def _following(self) -> str:
        if self.at >= len(self.source):
            raise _NotUnderstoodError
        self.at += 1
        return self.source[self.at - 1]

    def _read_document(self, document: _Token, mark: _Token, *, without_tabs: bool) -> None:
        lines: list[str] = []
        while self.at < len(self.source):
            end = self.source.find("\n", self.at)
            end = len(self.source) if end < 0 else end
            line = self.source[self.at : end]
            self.at = end + 1
            line = line.lstrip("\t") if without_tabs else line
            if line == mark.text:
                break
            lines.append(line)
        text = "\n".join(lines)
        literal = mark.quoted or not re.search(r"[$`\\]", text)
        document.form = normal_text(text) if literal else f"expanded {normal_text(text)}"
        document.text = text if literal else None


def _tokens(command: str) -> list[_Token] | None:
    try:
        return _Reader(command).read()
    except _NotUnderstoodError:
        return None


def _python_in(tokens: Sequence[_Token]) -> Iterator[_Token]:
    """Yield the tokens that are Python: arguments of `-c`, and documents that Python reads or that become its files."""
    start = 0
    for end in (*(i for i, token in enumerate(tokens) if _separates(token)), len(tokens)):
        part, start = tokens[start:end], end + 1
        words: list[_Token] = []
        files: list[str] = []
        for before, token in zip((None, *part), part, strict=False):
            if token.kind == "word" and before is not None and before.kind == "operator":
                files += [token.text or ""] if before.form == ">" else []
            elif token.kind == "word" and not _ASSIGNMENT.match(token.form):
                words.append(token)
        while words and words[0].text in _WRAPPERS:
            words.pop(0)
        if not words:
            continue
        arguments = [word.text for word in words[1:]]
        reads_code = False
        if _is_python(words[0].text):
            place = next((i for i, text in enumerate(arguments) if text in ("-c", "-m")), None)
            if (
                place is not None
                and arguments[place] == "-c"
                and any(t is not None for t in arguments[place + 1 :][:1])
            ):
                yield words[place + 2]
            named = [text for text in arguments if text is None or not text.startswith("-") or text == "-"]
            reads_code = place is None and named[:1] in ([], ["-"])
        elif words[0].text == "tee" and "-a" not in arguments:
            files += [text or "" for text in arguments]
        if reads_code or any(file.endswith(".py") for file in files):
            yield from (token for token in part if token.kind == "document" and token.text is not None)


def _separates(token: _Token) -> bool:
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
    tokens = _tokens(command)
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
    return any(is_no_python(token.text or "") for token in _python_in(_tokens(command) or ()))
