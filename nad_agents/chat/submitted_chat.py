"""`SubmittedChat`: a call of a chat model that was submitted to the decoder."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from nad_agents.chat.growing_text import GrowingText
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
        growing: The winner's text while it is being generated, for a streaming caller.
    """

    pending: PendingRequest
    settings: Settings
    prepared: PreparedChat
    growing: GrowingText = field(init=False)

    def __post_init__(self) -> None:
        self.growing = GrowingText(self.prepared.parser)

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
