"""Checking a model's answer: extract the program, run the checks in a sandbox, report.

What a passing report means: the judge (see `nad_sandbox.harness`), which never runs the program, saw the program's
functions return the expected values and every assertion of the tests hold, and proved it with a nonce that only it
knows. A program cannot pass by exiting early, printing, patching asserts or overriding comparisons. It can pass by
special-casing the inputs of tests that it has seen, as any program can; objects of the program's own classes are
compared by the program's own ``__eq__`` when both sides are such objects.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from typing import Any, Literal

from nad_sandbox.base import ExecResult, Sandbox, SandboxError, SandboxFailureError
from nad_sandbox.examples import find_examples
from nad_sandbox.extraction import extract_code
from nad_sandbox.harness import source as harness_source
from nad_sandbox.normalisation import normalise_program
from nad_sandbox.report import CheckResult, Report

__all__ = ["Check", "CodeVerifier", "UnsupportedTestsError"]

Check = Literal["syntax", "imports", "examples"]

_ORDER = ("syntax", "imports", "examples", "tests", "pairs")
_GRACE_SECONDS = 2.0


class UnsupportedTestsError(SandboxError):
    """The tests need something that cannot be had where they run; this says nothing about any program."""


class CodeVerifier:
    """Judges the Python program in an answer.

    Args:
        sandbox: where it runs.
        checks: `syntax` (it compiles), `imports` (it loads), `examples` (what the prompt's examples say; passes when
            the prompt has none).
        tests: Python source that it must pass: assert statements, unittest classes, pytest functions. Its names are
            there already, and as the modules `candidate` and `solution`.
        io_pairs: (input, output) pairs for a program that reads standard input; line ends and trailing spaces of
            the output do not count.
        entry_point: called by tests that define ``check(candidate)``.
        timeout: wall-clock seconds for everything; default: the sandbox's own limit.

    Raises:
        ValueError: a check is unknown, or the tests do not compile.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        *,
        checks: Sequence[Check] = ("syntax", "imports", "examples"),
        tests: str | None = None,
        io_pairs: Sequence[tuple[str, str]] = (),
        entry_point: str | None = None,
        timeout: float | None = None,
    ) -> None:
        unknown = [check for check in checks if check not in ("syntax", "imports", "examples")]
        if unknown:
            msg = f"unknown check {unknown[0]!r}; choose from syntax, imports, examples, and give tests or io_pairs"
            raise ValueError(msg)
        if tests is not None:
            try:
                compile(tests, "tests.py", "exec", dont_inherit=True)
            except (SyntaxError, ValueError) as error:
                msg = f"the tests do not compile: {error}"
                raise ValueError(msg) from error
            if entry_point is not None:
                tests += f"\n\ncheck({entry_point})\n"
        self.sandbox = sandbox
        self.tests = tests
        self.io_pairs = tuple(io_pairs)
        self.timeout = timeout
        wanted = {*checks, *(["tests"] if tests else []), *(["pairs"] if io_pairs else [])}
        self.checks = tuple(check for check in _ORDER if check in wanted)

    def verify(self, answer: str, *, prompt: str = "") -> Report:
        """Judge an answer.

        Args:
            answer: what the model wrote, prose and fences included.
            prompt: what it was asked; its examples are checked, its signature completes a bare body.

        Raises:
            SandboxUnavailableError: there is nowhere to run it.
            SandboxFailureError: the sandbox broke; nothing is known of the program.
        """
        code = extract_code(answer, prompt)
        if not code.strip():
            return Report(passed=False, checks=(CheckResult("code", passed=False, error="the answer is empty"),))
        limit = (
            self.timeout
            if self.timeout is not None
            else getattr(getattr(self.sandbox, "limits", None), "timeout", 10.0)
        )
        nonce = secrets.token_hex(16)
        examples = find_examples(prompt) if "examples" in self.checks else ()
        payload = {
            "nonce": nonce,
            "source": code,
            "checks": list(self.checks),
            "examples": [{"call": e.call, "expected": e.expected, "names": e.names} for e in examples],
            "tests": self.tests or "",
            "modules": ["candidate", "solution"],
            "pairs": [list(pair) for pair in self.io_pairs],
            "seconds": limit,
        }
        # a lone surrogate survives as an escape and is refused by the compiler inside, not by the encoder here
        feed = json.dumps(payload, ensure_ascii=True).encode("ascii")
        started = time.perf_counter()
        result = self.sandbox.run_python(harness_source(), stdin=feed, timeout=limit + _GRACE_SECONDS)
        seconds = time.perf_counter() - started
        checks = self._results(result, nonce)
        return Report(all(check.passed for check in checks), checks, seconds, code)

    def fingerprint(self, answer: str) -> str:
        """Equal for programs that differ only in comments, formatting, docstrings and names of local variables."""
        return normalise_program(extract_code(answer))

    def _results(self, result: ExecResult, nonce: str) -> tuple[CheckResult, ...]:
        for line in reversed(result.stdout.splitlines()):
            if line.startswith(nonce):
                found: list[dict[str, Any]] = json.loads(line[len(nonce) :])
                for check in found:
                    if check.pop("unsupported", False):
                        raise UnsupportedTestsError(f"{check['error']}; no candidate was judged")
                return tuple(CheckResult(**check) for check in found)
        # the judge itself did not live to say anything: a limit of the whole sandbox, or its own error
        if result.timed_out:
            return (CheckResult("limits", passed=False, error="the time limit ended the program"),)
        if result.oom_killed or result.returncode in (137, -9):
            return (CheckResult("limits", passed=False, error="the memory limit ended the program, or it was killed"),)
        if result.returncode in (126, 127) and result.stderr.startswith("nad_sandbox:"):
            return (CheckResult("limits", passed=False, error=result.stderr.strip()[-300:]),)
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        if "MemoryError" in last or result.output_truncated:
            return (CheckResult("limits", passed=False, error="the memory limit ended the program"),)
        msg = f"the judge ended with status {result.returncode}: {last[:300]}"
        raise SandboxFailureError(msg)
