"""Checking a model's answer: extract the program, run the checks in a sandbox, report.

Two judges decide (see `nad_sandbox.harness`, and docs/trust.md for what each stops). The first runs the tests beside
the program, as Python and pytest run them. Where the tests are plain enough, the second confirms a pass from a process
that holds nothing of the program. `Report.trust` says which of them stands behind it. A program can always pass by
knowing the inputs of tests that it has seen.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

from nad_sandbox.base import ExecResult, Sandbox, SandboxError, SandboxFailureError
from nad_sandbox.checks.code_extraction import LONGEST_PROGRAM, extract_programs
from nad_sandbox.checks.code_extraction.program_facts import is_idle
from nad_sandbox.checks.examples import Example, FoundExamples, read_examples
from nad_sandbox.checks.fingerprint import normalise_program
from nad_sandbox.checks.judge_plan import TestPlan, TestsError, plan_tests
from nad_sandbox.checks.report import CheckResult, Report, Trust
from nad_sandbox.checks.standard_input import reads_standard_input_when_loaded
from nad_sandbox.harness import judge_source
from nad_sandbox.harness.launch import run_harness

__all__ = ["Check", "CodeVerifier", "UnsupportedTestsError"]

Check = Literal["syntax", "imports", "examples"]

_ORDER = ("syntax", "imports", "examples", "tests", "pairs")
_GRACE_SECONDS = 2.0
_PYTEST_SECONDS = 10.0
_NO_TESTS = TestPlan("script")
_MOST_UNCHECKED = 10


class UnsupportedTestsError(SandboxError, ValueError):
    """The tests need something that cannot be had where they run; this says nothing about any program.

    It depends on the tests and the sandbox alone, and is raised before anything of a program has run.
    """


class CodeVerifier:
    """Judges the Python program in an answer.

    Args:
        sandbox: where it runs.
        checks: `syntax` (it compiles), `imports` (it loads), `examples` (what the prompt's certain examples say;
            passes when the prompt has none, and the report names those that are not certain).
        tests: Python source that it must pass: assert statements, unittest classes, pytest functions, or an
            interactive session. Its names are there already, and as the modules `candidate` and `solution`.
        io_pairs: (input, output) pairs for a program that reads standard input; line ends and trailing spaces of
            the output do not count.
        entry_point: called by tests that define ``check(candidate)``.
        timeout: wall-clock seconds for each judge; default: the sandbox's own limit.
        require_trust: "separate": accept only what was judged in a process that holds nothing of the program, for
            those who train on verdicts. Default: what the same process says is enough where tests are not plain.

    Raises:
        ValueError: a check is unknown, the tests do not compile, or they define ``check(candidate)`` and nothing
            calls it.
        UnsupportedTestsError: the tests check nothing, or cannot be judged as `require_trust` demands.
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
        require_trust: Trust = "same_process",
    ) -> None:
        unknown = [check for check in checks if check not in ("syntax", "imports", "examples")]
        if unknown:
            msg = f"unknown check {unknown[0]!r}; choose from syntax, imports, examples, and give tests or io_pairs"
            raise ValueError(msg)
        if require_trust not in ("separate", "same_process"):
            raise ValueError(f"require_trust is {require_trust!r}; choose 'separate' or 'same_process'")
        self.plan = _NO_TESTS
        if tests is not None:
            tests, self.plan = _planned(tests, entry_point)
            if require_trust == "separate" and self.plan.not_plain:
                raise UnsupportedTestsError(
                    f"these tests cannot be judged in a separate process: {self.plan.not_plain}; write them as plain "
                    "assertions on calls with plain data, or leave out require_trust='separate'"
                )
        self.sandbox = sandbox
        self.tests = tests
        self.io_pairs = tuple(io_pairs)
        self.timeout = timeout
        self.require_trust = require_trust
        wanted = {"syntax", *checks, *(["tests"] if tests else []), *(["pairs"] if io_pairs else [])}
        if wanted & {"examples", "tests"}:
            wanted.add("imports")
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
        try:
            programs = extract_programs(answer, prompt)
        except Exception as error:  # noqa: BLE001 - whatever source makes a parser raise is that source's fault
            failed = CheckResult("code", passed=False, error=f"the program cannot be read: {type(error).__name__}")
            return Report(passed=False, checks=(failed,))
        programs = tuple(code for code in programs if not is_idle(code))
        if not programs:
            reason = "the answer holds no code" if answer.strip() else "the answer is empty"
            return Report(passed=False, checks=(CheckResult("code", passed=False, error=reason),))
        reports: list[Report] = []
        for code in programs:
            reports.append(self._verify_program(code, prompt))
            if reports[-1].passed:
                return reports[-1]
        # all fail: the one that came furthest says most
        return max(reports, key=lambda report: len(report.checks))

    def _verify_program(self, code: str, prompt: str) -> Report:
        found_examples = read_examples(prompt) if "examples" in self.checks else FoundExamples((), ())
        checks = list(self.checks)
        if not self.tests and (self.io_pairs or not found_examples.examples) and reads_standard_input_when_loaded(code):
            # a script: it is run with its input, and not loaded without one
            checks = [check for check in checks if check not in ("imports", "examples")]
        payload = {
            "source": code,
            "checks": checks,
            "examples": [asdict(example) | {"literal": _is_literal(example)} for example in found_examples.examples],
            "tests": self.tests or "",
            "plan": asdict(self.plan),
            "pairs": [list(pair) for pair in self.io_pairs],
            "seconds": self._seconds,
            "require_trust": self.require_trust,
        }
        started = time.perf_counter()
        result, verdict = self._judge(payload)
        seconds = time.perf_counter() - started
        unchecked = tuple(map(str, found_examples.uncertain))[:_MOST_UNCHECKED]
        if verdict is None:
            return Report(False, (self._limit(result),), seconds, code, unchecked_examples=unchecked)
        if "unsupported" in verdict:
            raise UnsupportedTestsError(f"{verdict['unsupported']}; no candidate was judged")
        results = tuple(CheckResult(**check) for check in verdict["checks"])
        passed = all(check.passed for check in results)
        return Report(passed, results, seconds, code, verdict["trust"], verdict["python"], unchecked)

    def fingerprint(self, answer: str) -> str:
        """Equal for programs that differ only in comments, formatting, docstrings and names of local variables."""
        if len(answer) <= LONGEST_PROGRAM:
            # what cannot be parsed equals its own text alone
            with contextlib.suppress(Exception):
                return "\n".join(normalise_program(program) for program in extract_programs(answer))
        return hashlib.sha256(answer.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def _seconds(self) -> float:
        """Wall-clock seconds for each judge."""
        if self.timeout is not None:
            return self.timeout
        return float(getattr(getattr(self.sandbox, "limits", None), "timeout", 10.0))

    def _judge(self, payload: dict[str, Any]) -> tuple[ExecResult, dict[str, Any] | None]:
        """Run the judges; how their process ended, and the verdict that carries the nonce."""
        nonce = secrets.token_hex(16)
        # a lone surrogate survives as an escape and is refused by the compiler inside, not by the encoder here
        feed = json.dumps({**payload, "nonce": nonce}, ensure_ascii=True).encode("ascii")
        # the first judge, the second, and the pairs each have their time
        parts = 1 + (not self.plan.not_plain) + bool(self.io_pairs)
        timeout = parts * payload["seconds"] + _GRACE_SECONDS
        if self.plan.kind == "pytest" or "pytest" in self.plan.modules:
            timeout += _PYTEST_SECONDS
            provide = getattr(self.sandbox, "provide_pytest", None)
            if provide is not None:
                provide()
        result = run_harness(self.sandbox, judge_source(), feed, timeout=timeout)
        lines = [line for line in result.stdout.splitlines() if line.startswith(nonce)]
        return result, json.loads(lines[-1][len(nonce) :]) if lines else None

    def _limit(self, result: ExecResult) -> CheckResult:
        """What ended the supervisor before it could say anything: a limit of the whole sandbox, or the program.

        Raises:
            SandboxFailureError: it was neither, for a program that does nothing cannot be judged either.
        """
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        if result.timed_out:
            error = "the time limit ended the program"
        elif result.oom_killed or result.returncode in (137, -9):
            error = "the memory limit ended the program, or it was killed"
        elif result.returncode in (126, 127) and result.stderr.startswith("nad_sandbox:"):
            error = result.stderr.strip()[-300:]
        elif "MemoryError" in last or result.output_truncated:
            error = "the memory limit ended the program"
        elif self._works():
            error = f"the program ended the process that checks it (status {result.returncode}: {last[:300]})"
        else:
            raise SandboxFailureError(f"the judge ended with status {result.returncode}: {last[:300]}")
        return CheckResult("limits", passed=False, error=error)

    def _works(self) -> bool:
        """Whether a program that does nothing can be judged: then what went wrong was another program's doing."""
        empty = {"source": "", "checks": ["syntax", "imports"], "examples": [], "tests": "", "pairs": []}
        payload = {**empty, "plan": asdict(_NO_TESTS), "seconds": 10.0, "require_trust": "same_process"}
        return self._judge(payload)[1] is not None


def _planned(tests: str, entry_point: str | None) -> tuple[str, TestPlan]:
    """The tests as they are run, and what can be known of them.

    Raises:
        ValueError: they do not compile, or define ``check(candidate)`` and nothing calls it.
        UnsupportedTestsError: they check nothing.
    """
    try:
        tree = ast.parse(tests)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None  # an interactive session, or an error that the plan tells
    if tree is not None:
        if entry_point is None and _defines_check_alone(tree):
            raise ValueError("the tests define check(candidate) and nothing calls it: name the entry_point")
        if entry_point is not None:
            tests += f"\n\ncheck({entry_point})\n"
    try:
        return tests, plan_tests(tests, entry_point)
    except TestsError as error:
        if "do not compile" in str(error):
            raise ValueError(str(error)) from error
        raise UnsupportedTestsError(str(error)) from error


def _is_literal(example: Example) -> bool:
    """Whether what an example expects is the source of a literal."""
    try:
        ast.literal_eval(example.expected)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False
    return True


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
