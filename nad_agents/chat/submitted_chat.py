"""`SubmittedChat`: one call of a chat model on its way, and the text of its answer that may be shown already."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from nad_agents.chat.params import Settings
from nad_agents.chat.parsed_answer import ParsedAnswer
from nad_agents.chat.prepare import PreparedChat
from nad_agents.pending import PendingRequest

__all__ = ["SubmittedChat"]


@dataclass(eq=False)
class SubmittedChat:
    """One call that is queued or running; a front end's subclass turns its selection into the framework's types.

    Attributes:
        pending: The caller's handle on the decoder's request.
        settings: Settings of the call.
        prepared: The prompt, the requested kind of answer, and its parser.
        text: The winner's text so far.
        sent: Content and thinking that a streaming caller has got so far.
    """

    pending: PendingRequest
    settings: Settings
    prepared: PreparedChat
    text: str = field(default="", init=False)
    sent: ParsedAnswer = field(default_factory=lambda: ParsedAnswer(""), init=False)

    def cancel(self) -> None:
        """Stop generating within a chunk; without effect on a finished call."""
        self.pending.cancel()

    def parse(self, text: str) -> ParsedAnswer:
        """Take a whole answer apart; where the call allows no parallel tool calls, only the first one is kept.

        Args:
            text: The whole answer.
        """
        parsed = self.prepared.parser.parse(text)
        return replace(parsed, calls=parsed.calls[:1]) if self.prepared.output_spec.parallel is False else parsed

    def add_text(self, delta: str) -> ParsedAnswer:
        """Take more of the winner's text, and return the content and thinking that a streaming caller gets for it.

        Text that may be part of a tool call is held back until that is decided.

        Args:
            delta: The winner's text since the last call.
        """
        self.text += delta
        return self.unsent(self.prepared.parser.stable_prefix(self.text))

    def unsent(self, parsed: ParsedAnswer) -> ParsedAnswer:
        """Return the content and thinking that a streaming caller has not got yet, and count them as sent.

        Args:
            parsed: The answer, or its stable prefix.
        """
        content = _extension(self.sent.content, parsed.content)
        thinking = _extension(self.sent.thinking, parsed.thinking)
        self.sent = ParsedAnswer(self.sent.content + content, thinking=self.sent.thinking + thinking)
        return ParsedAnswer(content, thinking=thinking)


def _extension(sent: str, text: str) -> str:
    """Return the text that `text` adds to `sent`; empty if `text` begins differently, since sent text stays sent."""
    return text[len(sent) :] if text.startswith(sent) else ""
