"""Checking a model's answer: extract the program, run the checks in a sandbox, report.

What a passing report means: the judge (see `nad_sandbox.harness`), which never runs the program, saw the program's
functions return the expected values and every assertion of the tests hold, and proved it with a nonce that only it
knows. A program cannot pass by exiting early, printing, patching asserts or overriding comparisons. It can pass by
special-casing the inputs of tests that it has seen, as any program can; objects of the program's own classes are
compared by the program's own ``__eq__`` when both sides are such objects.
"""

from __future__ import annotations

import ast
import hashlib
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

from nad_sandbox.base import ExecResult, Sandbox, SandboxError, SandboxFailureError
from nad_sandbox.checks.code_extraction import LONGEST_PROGRAM, extract_code, extract_programs
from nad_sandbox.checks.examples import FoundExamples, read_examples
from nad_sandbox.checks.fingerprint import normalise_program
from nad_sandbox.checks.report import CheckResult, Report
from nad_sandbox.checks.standard_input import reads_standard_input_when_loaded
from nad_sandbox.harness import source as harness_source
from nad_sandbox.harness.launch import run_harness

__all__ = ["Check", "CodeVerifier", "UnsupportedTestsError"]

Check = Literal["syntax", "imports", "examples"]

_ORDER = ("syntax", "imports", "examples", "tests", "pairs")
_GRACE_SECONDS = 2.0
_MOST_UNCHECKED = 10


class UnsupportedTestsError(SandboxError):
    """The tests need something that cannot be had where they run; this says nothing about any program."""


class CodeVerifier:
    """Judges the Python program in an answer.

    Args:
        sandbox: where it runs.
        checks: `syntax` (it compiles), `imports` (it loads), `examples` (what the prompt's certain examples say;
            passes when the prompt has none, and the report names those that are not certain).
        tests: Python source that it must pass: assert statements, unittest classes, pytest functions. Its names are
            there already, and as the modules `candidate` and `solution`.
        io_pairs: (input, output) pairs for a program that reads standard input; line ends and trailing spaces of
            the output do not count.
        entry_point: called by tests that define ``check(candidate)``.
        timeout: wall-clock seconds for everything; default: the sandbox's own limit.

    Raises:
        ValueError: a check is unknown, the tests do not compile, or they define ``check(candidate)`` and nothing
            calls it.
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
                uncalled = entry_point is None and _defines_check_alone(ast.parse(tests))
            except (SyntaxError, ValueError) as error:
                msg = f"the tests do not compile: {error}"
                raise ValueError(msg) from error
            if uncalled:
                raise ValueError("the tests define check(candidate) and nothing calls it: name the entry_point")
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
        if len(answer) > LONGEST_PROGRAM:
            error = f"the answer has {len(answer):,} characters, and at most {LONGEST_PROGRAM:,} are checked"
            return Report(passed=False, checks=(CheckResult("code", passed=False, error=error),))
        programs = extract_programs(answer, prompt)
        if not programs[0].strip():
            return Report(passed=False, checks=(CheckResult("code", passed=False, error="the answer is empty"),))
        reports: list[Report] = []
        for code in programs:
            reports.append(self._verify_program(code, prompt))
            if reports[-1].passed:
                return reports[-1]
        # all fail: the one that came furthest says most
        return max(reports, key=lambda report: len(report.checks))

    def _verify_program(self, code: str, prompt: str) -> Report:
        limit = (
            self.timeout
            if self.timeout is not None
            else getattr(getattr(self.sandbox, "limits", None), "timeout", 10.0)
        )
        found_examples = read_examples(prompt) if "examples" in self.checks else FoundExamples((), ())
        checks = list(self.checks)
        if not self.tests and (self.io_pairs or not found_examples.examples) and reads_standard_input_when_loaded(code):
            # a script: it is run with its input, and not loaded without one
            checks = [check for check in checks if check not in ("imports", "examples")]
        payload = {
            "source": code,
            "checks": checks,
            "examples": [asdict(example) for example in found_examples.examples],
            "tests": self.tests or "",
            "modules": ["candidate", "solution", "main"],
            "pairs": [list(pair) for pair in self.io_pairs],
            "seconds": limit,
        }
        started = time.perf_counter()
        result, found = self._judge(payload)
        seconds = time.perf_counter() - started
        results = self._results(result, found)
        return Report(
            all(check.passed for check in results),
            results,
            seconds,
            code,
            tuple(map(str, found_examples.uncertain))[:_MOST_UNCHECKED],
            result.python_version,
        )

    def fingerprint(self, answer: str) -> str:
        """Equal for programs that differ only in comments, formatting, docstrings and names of local variables."""
        if len(answer) > LONGEST_PROGRAM:
            return hashlib.sha256(answer.encode("utf-8", "surrogatepass")).hexdigest()
        return normalise_program(extract_code(answer))

    def _judge(self, payload: dict[str, Any]) -> tuple[ExecResult, list[dict[str, Any]] | None]:
        """Run the judge; how it ended, and what it proved to have found."""
        nonce = secrets.token_hex(16)
        # a lone surrogate survives as an escape and is refused by the compiler inside, not by the encoder here
        feed = json.dumps({**payload, "nonce": nonce}, ensure_ascii=True).encode("ascii")
        timeout = payload["seconds"] + _GRACE_SECONDS
        result = run_harness(self.sandbox, harness_source(payload.get("tests", "")), stdin=feed, timeout=timeout)
        lines = [line for line in result.stdout.splitlines() if line.startswith(nonce)]
        return result, json.loads(lines[-1][len(nonce) :]) if lines else None

    def _results(self, result: ExecResult, found: list[dict[str, Any]] | None) -> tuple[CheckResult, ...]:
        if found is not None:
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
        if not self._works():
            raise SandboxFailureError(f"the judge ended with status {result.returncode}: {last[:300]}")
        error = f"the program ended the process that checks it (status {result.returncode}: {last[:300]})"
        return (CheckResult("limits", passed=False, error=error),)

    def _works(self) -> bool:
        """Whether a program that does nothing can be judged: then what went wrong was another program's doing."""
        payload = {"source": "", "checks": ["syntax", "imports"], "seconds": 10.0}
        return self._judge(payload)[1] is not None


def _defines_check_alone(tests: ast.Module) -> bool:
    """Whether tests are a function ``check`` of one parameter, beside which nothing happens."""
    quiet = (ast.FunctionDef, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
    functions = [node for node in tests.body if isinstance(node, ast.FunctionDef)]
    return (
        [function.name for function in functions if not function.name.startswith("_")] == ["check"]
        and all(len(function.args.args) == 1 for function in functions if function.name == "check")
        and all(isinstance(node, quiet) or _is_text(node) for node in tests.body)
    )


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
