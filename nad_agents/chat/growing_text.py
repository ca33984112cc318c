"""`GrowingText`: how much of an answer that is still being generated may be shown already."""

from __future__ import annotations

from nad_agents.chat.parsed_answer import ParsedAnswer
from nad_agents.chat.response_parser import ResponseParser

__all__ = ["GrowingText"]


class GrowingText:
    """The text of an answer that is still being generated, and the part of it that a streaming caller has.

    Text that may be part of a tool call is held back until that is decided.

    Attributes:
        text: What the model has generated so far.
        sent: Content and thinking that the caller has so far.

    Args:
        parser: The parser of the request, from `PreparedChat`.
    """

    def __init__(self, parser: ResponseParser) -> None:
        self._parser = parser
        self.text = ""
        self.sent = ParsedAnswer("")

    def add(self, delta: str) -> ParsedAnswer:
        """Append generated text, and return the content and thinking that the caller gets for it.

        Args:
            delta: What the model has generated since the last call.
        """
        self.text += delta
        return self.unsent(self._parser.stable_prefix(self.text))

    def unsent(self, parsed: ParsedAnswer) -> ParsedAnswer:
        """Return the content and thinking that the caller does not have yet, and count them as sent.

        Args:
            parsed: The answer, or its stable prefix.
        """
        content = _extension(self.sent.content, parsed.content)
        thinking = _extension(self.sent.thinking, parsed.thinking)
        self.sent = ParsedAnswer(self.sent.content + content, thinking=self.sent.thinking + thinking)
        return ParsedAnswer(content, thinking=thinking)


def _extension(sent: str, text: str) -> str:
    """Return what `text` adds to `sent`; nothing where it reads differently, since what was sent cannot be undone."""
    return text[len(sent) :] if text.startswith(sent) else ""
