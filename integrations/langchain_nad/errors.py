"""What the LangChain integration raises beyond `nad_agents.exceptions`."""

from __future__ import annotations

from typing import Any

from nad_agents.exceptions import NADError

__all__ = ["CodeRejectedError"]


class CodeRejectedError(NADError):
    """The code in an answer failed its checks.

    Attributes:
        report: what was found, as data.
        feedback: the same for a person or a model to read.
    """

    def __init__(self, report: dict[str, Any], feedback: str) -> None:
        first = next((line for line in feedback.splitlines() if line.strip()), "no reason given")
        super().__init__(f"the code in the answer failed its checks: {first}; see .feedback, or on_failure='annotate'")
        self.report = report
        self.feedback = feedback
