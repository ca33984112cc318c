"""Checking candidates in rank order: what a verifier must offer, and the walk down the ranking.

The library runs no code itself. Anything with a ``verify`` method of this shape can judge a candidate: a sandbox
that executes it, a linter, a schema validator, a callable wrapped in a class.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

__all__ = ["Verdict", "Verifier"]


@runtime_checkable
class Verdict(Protocol):
    """What a verifier says of one answer."""

    @property
    def passed(self) -> bool:
        """Whether the answer is accepted."""
        ...

    @property
    def feedback(self) -> str:
        """A bounded report that a person or a model can read; empty when the answer passed."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """The verdict as JSON-serialisable data."""
        ...


@runtime_checkable
class Verifier(Protocol):
    """Judges one answer at a time; must be safe to call from several threads."""

    def verify(self, answer: str, *, prompt: str = "") -> Verdict:
        """Judge an answer.

        Args:
            answer: the candidate's text, prose and code fences included.
            prompt: what the model was asked; examples in it may serve as checks.

        Raises:
            Exception: when the verifier itself cannot work; never because the answer is wrong.
        """
        ...

    def fingerprint(self, answer: str) -> str:
        """A key that is equal for answers which must get the same verdict, so that each is checked once."""
        ...
