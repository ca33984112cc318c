"""The report on one checked answer, for people, for models, and as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["CheckName", "CheckResult", "Report", "Trust"]

CheckName = Literal["code", "syntax", "imports", "examples", "tests", "pairs", "limits"]
"""Name of a check. `code` fails when the answer has no program, `limits` when a limit of the sandbox or the program
itself ended the run before a verdict. Callers ask for the others."""

Trust = Literal["separate", "same_process"]
"""Which judge made a verdict. `separate`: the verdict was made in a process that never held any part of the program.
`same_process`: the program and its tests shared a process, where a program written against this judge can in principle
deceive it."""

_FEEDBACK_CHARACTERS = 2000


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        check: Name of the check.
        passed: Whether the check passed.
        seconds: Duration of the check in seconds.
        assertion: The assertion, call or input that failed.
        expected: The expected value, as source text.
        got: The actual value, as source text.
        error: The exception, or why the program ended.
        where: The program's lines in the traceback of the error.
        output: The end of the program's output.
        test_line: Line of the tests at which the check failed.
    """

    check: CheckName
    passed: bool
    seconds: float = 0.0
    assertion: str = ""
    expected: str = ""
    got: str = ""
    error: str = ""
    where: str = ""
    output: str = ""
    test_line: int | None = None


@dataclass(frozen=True)
class Report:
    """The result of checking one answer.

    Attributes:
        passed: Whether every check passed.
        checks: Results in order; no check after the first failed one was run.
        duration: Wall-clock seconds in the sandbox.
        code: The program that was checked.
        trust: Which judge made the verdict; None when nothing was run.
        python_version: Version of the Python that ran the program, such as "3.13.1"; empty when nothing was run.
        unchecked_examples: At most ten places of the prompt that may be examples and were not checked, each with the
            reason.
        tested: Whether there were expected results to compare with: examples, tests or pairs. Without them, a program
            passes that compiles and loads.
    """

    passed: bool
    checks: tuple[CheckResult, ...]
    duration: float = 0.0
    code: str = ""
    trust: Trust | None = None
    python_version: str = ""
    unchecked_examples: tuple[str, ...] = ()
    tested: bool = True

    @property
    def failure(self) -> CheckResult | None:
        """The check that failed; None when every check passed."""
        return next((check for check in self.checks if not check.passed), None)

    @property
    def feedback(self) -> str:
        """Return what a person or a model needs to fix the program, in at most 2,000 characters; empty if it passed."""
        failure = self.failure
        if failure is None:
            return ""
        lines = [f"The check {failure.check!r} failed."]
        if failure.assertion:
            lines.append(f"Failed: {failure.assertion}")
        if failure.got and failure.expected == failure.got:
            # for example `assert f(1) != 3`, or values of two types with the same repr
            lines.append(f"The value is {failure.got}, for which this does not hold.")
        elif failure.expected or failure.got:
            lines.append(f"Expected: {failure.expected or 'nothing'}")
            lines.append(f"Got: {failure.got or 'nothing'}")
        if failure.error:
            lines.append(f"Error: {failure.error}")
        if failure.test_line is not None:
            lines.append(f"At line {failure.test_line} of the tests.")
        if failure.where:
            lines.append(f"In the program: {failure.where}")
        if failure.output.strip():
            lines.append(f"It had printed: {failure.output.strip()}")
        text = "\n".join(lines)
        return text if len(text) <= _FEEDBACK_CHARACTERS else text[: _FEEDBACK_CHARACTERS - 4] + " ..."

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-serializable data; it has ``code`` if a program was found."""
        checks = [
            {key: value for key, value in asdict(check).items() if value not in ("", None)} for check in self.checks
        ]
        report = {
            "passed": self.passed,
            "feedback": self.feedback,
            "checks": checks,
            "duration": self.duration,
            "trust": self.trust,
            "python_version": self.python_version,
            "tested": self.tested,
        }
        more = {"code": self.code, "unchecked_examples": list(self.unchecked_examples)}
        return report | {name: value for name, value in more.items() if value}
