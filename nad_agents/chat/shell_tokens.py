"""Divide a shell's command into words, operators and here-documents."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from nad_agents.chat.python_code import normal_text

__all__ = ["ShellToken", "shell_tokens"]

_OPERATOR = re.compile(r"<<<|<<-|&>>|<<|>>|&&|\|\||;;|>\||<>|&>|[<>]&|[;|&<>()]")
_PLAIN = re.compile(r"[\w./:,+%@-]")
"""Characters that a shell takes as they are, whether they are quoted or not."""


class _NotUnderstoodError(Exception):
    """The command uses a form that is not read here, or ends within a quotation."""


@dataclass
class ShellToken:
    """A word, an operator or the text of a here-document.

    Attributes:
        kind: What the token is.
        form: The token, written in the same way however it was quoted.
        text: The text that the shell passes on; None if it depends on what is expanded.
        quoted: Whether a part of it was quoted.
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
    tokens: list[ShellToken] = field(default_factory=list)
    word: ShellToken | None = None
    documents: list[tuple[ShellToken, ShellToken, bool]] = field(default_factory=list)

    def read(self) -> list[ShellToken]:
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
            self.word = self.word or ShellToken("word", ")" if self.source[self.at - 1 : self.at] == ")" else "")
            self._read_part(self.word, character)

    def _end_word(self) -> None:
        if self.word is None:
            return
        before = self.tokens[-1] if self.tokens else None
        if before is not None and before.kind == "operator" and before.form.endswith(("<<", "<<-")):
            document = ShellToken("document")
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
            self.tokens.append(ShellToken("operator", ";"))

    def _read_operator(self, operator: str) -> None:
        number = ""
        if self.word is not None and operator[0] in "<>" and self.word.form.isdecimal() and not self.word.quoted:
            # the number of a file, as in 2>
            number, self.word = self.word.form, None
        self._end_word()
        self.tokens.append(ShellToken("operator", number + operator))
        self.at += len(operator)

    def _read_part(self, word: ShellToken, character: str) -> None:
        """Read the next character of a word, or a whole quotation that is a part of it."""
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

    def _read_double_quotes(self, word: ShellToken) -> None:
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

    def _read_document(self, document: ShellToken, mark: ShellToken, *, without_tabs: bool) -> None:
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


def shell_tokens(command: str) -> list[ShellToken] | None:
    """Divide a command as POSIX shells divide it; None for one that is not understood.

    Args:
        command: The command as a shell reads it.
    """
    try:
        return _Reader(command).read()
    except _NotUnderstoodError:
        return None
