"""Checks for a server that is asked for everything: the Python in an answer is checked, an answer without passes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from nad_agents.verification import Verdict, Verifier

__all__ = ["PythonAnswers"]

_FENCE = re.compile(r"^ {0,3}```[ \t]*([\w+.-]*)[^\n]*\n(.*?)(?:^ {0,3}```|\Z)", re.DOTALL | re.MULTILINE)
_PYTHON = {"python", "py", "python3", "pycon"}
_LOOKS_LIKE_PYTHON = re.compile(r"^(?:def |class |import |from \w+ import |async def )", re.MULTILINE)


@dataclass(frozen=True)
class _NothingToCheck:
    """The verdict on an answer without a program."""

    passed: bool = True
    feedback: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"passed": True, "feedback": "", "reason": "the answer holds no Python"}


@dataclass(frozen=True)
class PythonAnswers:
    """Leaves answers with Python code to a verifier, and lets the others pass.

    Attributes:
        verifier: judges programs.
    """

    verifier: Verifier

    def verify(self, answer: str, *, prompt: str = "") -> Verdict:
        """Judge an answer."""
        return self.verifier.verify(answer, prompt=prompt) if _has_python(answer) else _NothingToCheck()

    def fingerprint(self, answer: str) -> str:
        """Key of answers that must get the same verdict."""
        return self.verifier.fingerprint(answer) if _has_python(answer) else answer


def _has_python(answer: str) -> bool:
    """Whether there is a fenced block that says it is Python, or says nothing and looks like it."""
    return any(
        language.lower() in _PYTHON or (not language and _LOOKS_LIKE_PYTHON.search(code))
        for language, code in _FENCE.findall(answer)
    )
