"""`ContentVerifier`: hands a verifier the content of answers, and lets tool calls pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nad_agents.chat.response_parser import ResponseParser
from nad_agents.verification import Verdict, Verifier

__all__ = ["ContentVerifier", "ToolCallVerdict"]


@dataclass(frozen=True)
class ToolCallVerdict:
    """The verdict on an answer that calls tools: it passes, since there is no content to check yet."""

    passed: bool = True
    feedback: str = ""
    tested: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON-serializable data."""
        return {"passed": True, "feedback": "", "reason": "a tool call is not checked"}


@dataclass(frozen=True)
class ContentVerifier:
    """A verifier that accepts tool calls unseen and hands the content of every other answer to another verifier.

    Attributes:
        verifier: Judges the content, which is the answer without the model's thinking.
        parser: Takes answers apart.
    """

    verifier: Verifier
    parser: ResponseParser

    def verify(self, answer: str, *, prompt: str = "") -> Verdict:
        """Judge an answer; see `nad_agents.verification.Verifier`."""
        parsed = self.parser.parse(answer)
        return ToolCallVerdict() if parsed.calls else self.verifier.verify(parsed.content, prompt=prompt)

    def fingerprint(self, answer: str) -> str:
        """Return a key that is the same for answers which must get the same verdict."""
        parsed = self.parser.parse(answer)
        return answer if parsed.calls else self.verifier.fingerprint(parsed.content)
