"""Exceptions of the LangChain integration beyond those of `nad_agents.exceptions`."""

from __future__ import annotations

from typing import Any

from langchain_core.exceptions import ContextOverflowError

from nad_agents.exceptions import NADError, PromptTooLongError

__all__ = ["CodeRejectedError", "PromptOverflowError"]


class PromptOverflowError(PromptTooLongError, ContextOverflowError):
    """Prompt and answer together exceed the model's context; agents that know langchain-core's error summarize then."""


class CodeRejectedError(NADError):
    """The code in an answer failed its checks.

    Attributes:
        report: The verifier's report as data.
        feedback: The report as text for a person or a model.
    """

    def __init__(self, report: dict[str, Any], feedback: str) -> None:
        first = next((line for line in feedback.splitlines() if line.strip()), "no reason given")
        super().__init__(f"the code in the answer failed its checks: {first}; see .feedback, or on_failure='annotate'")
        self.report = report
        self.feedback = feedback
