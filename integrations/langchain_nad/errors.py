"""What the LangChain integration raises beyond `nad_agents.exceptions`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from nad_agents.exceptions import ConfigurationError, GenerationCancelledError, NADError

__all__ = ["AnswerCutError", "CodeRejectedError", "GenerationTimeoutError", "check_names", "configuration_error"]


class GenerationTimeoutError(GenerationCancelledError, TimeoutError):
    """The answer took longer than `timeout` seconds and was stopped."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"no answer within timeout={seconds:g} seconds; raise timeout, or lower n or max_tokens, "
            "or set pruning='first_chunk'"
        )


class AnswerCutError(NADError):
    """The token limit ended an answer before it had become what `response_format` asks for.

    Attributes:
        text: the answer as far as it came.
    """

    def __init__(self, text: str) -> None:
        super().__init__(
            f"the token limit cut the answer before it fitted response_format: {text!r}; raise max_tokens, "
            "or ask for a pattern that a short answer can fit"
        )
        self.text = text


def check_names(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse a parameter that nobody reads.

    Raises:
        ConfigurationError: names the first unknown parameter and the nearest known one.
    """
    names = sorted(known)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
            msg = f"{where} has no parameter {name!r}; {hint}"
            raise ConfigurationError(msg)


def configuration_error(error: ValidationError, where: str) -> ConfigurationError:
    """What pydantic refused, on one line: which parameter, which value, why."""
    found = []
    for problem in error.errors():
        cause = problem.get("ctx", {}).get("error")
        if isinstance(cause, ConfigurationError):
            found.append(str(cause))
            continue
        name = ".".join(str(part) for part in problem["loc"]) or where
        found.append(f"{name}={problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}")
    return ConfigurationError(f"{where}: {'; '.join(found)}")


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
