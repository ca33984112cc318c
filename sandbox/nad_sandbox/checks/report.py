"""What checking one answer found, for people, for models, and as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["CheckName", "CheckResult", "Report", "Trust"]

CheckName = Literal["code", "syntax", "imports", "examples", "tests", "pairs", "limits"]
"""`code`: there is a program in the answer. `limits`: the sandbox ended it. The others are what was asked for."""

Trust = Literal["separate", "same_process"]
"""Which judge stands behind a pass. `separate`: the verdict was made in a process that never held anything of the
program. `same_process`: the program and its tests shared a process, where a program written against this judge can in
principle deceive it."""

_FEEDBACK_CHARACTERS = 2000


@dataclass(frozen=True)
class CheckResult:
    """One check.

    Attributes:
        check: which.
        passed: whether it holds.
        seconds: how long it took.
        assertion: the assertion, call or input that failed.
        expected: what should have come, as source text.
        got: what came.
        error: the exception, or what ended the program.
        where: lines of the program on the way to the error.
        output: the end of what the program printed.
        test_line: line of the tests at which it failed.
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
    """What checking one answer found.

    Attributes:
        passed: every check holds.
        checks: results in order; nothing after the first that failed was run.
        duration: wall-clock seconds in the sandbox.
        code: the program that was checked.
        trust: which judge made the verdict; None when nothing was run.
        python_version: version of the Python that ran it, such as "3.13.1"; empty when nothing was run.
        unchecked_examples: places of the prompt that may be examples and were not checked, each with the reason; ten
            at most.
    """

    passed: bool
    checks: tuple[CheckResult, ...]
    duration: float = 0.0
    code: str = ""
    trust: Trust | None = None
    python_version: str = ""
    unchecked_examples: tuple[str, ...] = ()

    @property
    def failure(self) -> CheckResult | None:
        """The check that failed."""
        return next((check for check in self.checks if not check.passed), None)

    @property
    def feedback(self) -> str:
        """What a person or a model needs to mend the program; empty when it passed; at most 2,000 characters."""
        failure = self.failure
        if failure is None:
            return ""
        lines = [f"The check {failure.check!r} failed."]
        if failure.assertion:
            lines.append(f"Failed: {failure.assertion}")
        if failure.got and failure.expected == failure.got:
            # such as `assert f(1) != 3`, or values of two types that are written alike
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
        """Return the report as JSON-serializable data; ``code`` is there if a program was found."""
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
        }
        more = {"code": self.code, "unchecked_examples": list(self.unchecked_examples)}
        return report | {name: value for name, value in more.items() if value}
