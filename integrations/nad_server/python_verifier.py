"""Checks of Python code for a server that is asked for other things as well: an answer without Python passes."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nad_agents.exceptions import ConfigurationError, PromptError
from nad_agents.verification import Verdict, Verifier

__all__ = ["ProposedInputs", "PythonAnswers", "was_checked"]

_LOG = logging.getLogger("nad_server")

_FENCE = re.compile(r"^ {0,3}```[ \t]*([\w+.-]*)[^\n]*\n(.*?)(?:^ {0,3}```|\Z)", re.DOTALL | re.MULTILINE)
_PYTHON = {"python", "py", "python3", "pycon"}
_LOOKS_LIKE_PYTHON = re.compile(r"^(?:def |class |import |from \w+ import |async def )", re.MULTILINE)


def was_checked(verdict: Mapping[str, Any] | None) -> bool:
    """Return whether a verdict comes from checking code, not from an answer without Python."""
    return "reason" not in (verdict or {})


@dataclass(frozen=True)
class _NothingToCheck:
    """The verdict on an answer that holds no Python."""

    passed: bool = True
    feedback: str = ""
    tested: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {"passed": True, "feedback": "", "reason": "the answer holds no Python"}


@dataclass(frozen=True)
class PythonAnswers:
    """A verifier that hands answers with Python code to another verifier and accepts all other answers.

    Attributes:
        verifier: Judges the answers with Python code.
    """

    verifier: Verifier

    def verify(self, answer: str, *, prompt: str = "") -> Verdict:
        """Judge an answer."""
        return self.verifier.verify(answer, prompt=prompt) if _has_python(answer) else _NothingToCheck()

    def fingerprint(self, answer: str) -> str:
        """Return a key that is the same for answers which must get the same verdict."""
        return self.verifier.fingerprint(answer) if _has_python(answer) else answer


def _has_python(answer: str) -> bool:
    """Return whether the answer or a fenced block is Python, by the block's mark or, without one, by its content."""
    from nad_sandbox.checks.code_extraction import LONGEST_PROGRAM
    from nad_sandbox.checks.code_extraction.program_facts import facts

    known = facts(answer) if len(answer) <= LONGEST_PROGRAM else None
    return (known is not None and known.works) or any(
        language.lower() in _PYTHON or (not language and _LOOKS_LIKE_PYTHON.search(code))
        for language, code in _FENCE.findall(answer)
    )


@dataclass(frozen=True)
class ProposedInputs:
    """An input proposer that proposes nothing where another one fails, such as for a prompt that leaves no room.

    The selector `behaviour` then uses only the inputs that it finds without a proposer.

    Attributes:
        propose: The other proposer; see `nad_sandbox.behaviour.input_set.InputProposer`.
    """

    propose: Callable[[str, Mapping[str, Mapping[str, Any]] | None], list[object]]

    def __call__(self, prompt: str, parameters: Mapping[str, Mapping[str, Any]] | None) -> list[object]:
        """Propose inputs for the program that a prompt asks for."""
        try:
            return self.propose(prompt, parameters)
        except (ConfigurationError, PromptError) as error:
            _LOG.warning("no inputs were proposed: %s", error)
            return []
