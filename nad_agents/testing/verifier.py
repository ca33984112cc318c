"""`AcceptingVerifier`: a verifier whose verdicts a test decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["AcceptingVerifier", "VerifierCall"]


class VerifierCall(NamedTuple):
    """One call of `AcceptingVerifier.verify`: the answer that was judged, and its prompt."""

    answer: str
    prompt: str


@dataclass(frozen=True)
class _Verdict:
    passed: bool
    feedback: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"passed": self.passed, "feedback": self.feedback}


class AcceptingVerifier:
    """A verifier that accepts the answers a test names, rejects all others, and records what it was asked.

    Args:
        *accepted: Answers to accept, or functions that return whether they accept an answer. A function that raises
            stands for a verifier that is broken.
        feedback: The report on a rejected answer.

    Attributes:
        calls: The calls of `verify`, in order. Equal answers of one prompt are judged once.
    """

    def __init__(
        self, *accepted: str | Callable[[str], bool], feedback: str = "the test accepts no such answer"
    ) -> None:
        self._accepted = accepted
        self._feedback = feedback
        self.calls: list[VerifierCall] = []

    def verify(self, answer: str, *, prompt: str = "") -> _Verdict:
        """Judge an answer.

        Args:
            answer: The candidate's text.
            prompt: The prompt that the model answered.
        """
        self.calls.append(VerifierCall(answer, prompt))
        if any(accepts(answer) if callable(accepts) else accepts == answer for accepts in self._accepted):
            return _Verdict(passed=True)
        return _Verdict(passed=False, feedback=self._feedback)

    def fingerprint(self, answer: str) -> str:
        """Return the answer itself, so that equal answers are judged once."""
        return answer
