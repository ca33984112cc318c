"""Checks for a server that is asked for everything: an answer without Python passes, a proposal that fails is none."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nad_agents.exceptions import ConfigurationError, PromptError
from nad_agents.verification import Verdict, Verifier

__all__ = ["ProposedInputs", "PythonAnswers"]

_LOG = logging.getLogger("nad_server")

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


@dataclass(frozen=True)
class ProposedInputs:
    """Inputs that are proposed where that works; the others have to do where the prompt leaves no room to ask.

    Attributes:
        propose: see `nad_sandbox.behaviour.inputs.InputProposer`.
    """

    propose: Callable[[str, Mapping[str, Mapping[str, Any]] | None], list[object]]

    def __call__(self, prompt: str, parameters: Mapping[str, Mapping[str, Any]] | None) -> list[object]:
        """Inputs for the program that a prompt asks for."""
        try:
            return self.propose(prompt, parameters)
        except (ConfigurationError, PromptError) as error:
            _LOG.warning("no inputs were proposed: %s", error)
            return []
