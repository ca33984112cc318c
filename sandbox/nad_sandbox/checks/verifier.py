"""Check a model's answer: extract the program, run the checks in a sandbox, and report.

Two judges decide (see `nad_sandbox.harness`, and docs/trust.md for the tricks that each stops). The first judge runs
the tests in the program's own process, as Python and pytest run them. Where the tests are plain enough, the second
judge confirms a pass from a process that holds no part of the program. `Report.trust` says which judge made the
verdict. A program can always pass by recognizing the inputs of tests that it has seen.
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
from nad_sandbox.checks.fingerprint import normalize_program
from nad_sandbox.checks.guarded_parse import PARSE_ERRORS, parse_expression, parse_tests
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
    """Raised when the tests need something that the sandbox does not have; this says nothing about any program.

    The error depends on the tests and the sandbox alone, and is raised before any part of a program has run.
    """


class CodeVerifier:
    """Checks the Python program in an answer.

    Args:
        sandbox: Sandbox that runs the program.
        checks: `syntax` (the program compiles), `imports` (it loads), `examples` (the prompt's certain examples hold;
            passes when the prompt has none, and the report lists the uncertain ones).
        tests: Python source that the program must pass: assert statements, unittest classes, pytest functions, or an
            interactive session. The tests can use the program's names directly, or import them from the modules
            `candidate` and `solution`.
        io_pairs: (input, output) pairs for a program that reads standard input; line ends and trailing spaces of
            the output are ignored.
        entry_point: Name of the function that is passed to tests that define ``check(candidate)``.
        timeout: Wall-clock seconds for each judge; default: the sandbox's own limit.
        require_trust: "separate" accepts only verdicts from a process that holds no part of the program, for those
            who train on verdicts. By default a verdict from the program's own process is enough where tests are not
            plain.

    Raises:
        ValueError: A check is unknown, the tests do not compile, or they define ``check(candidate)`` and nothing
            calls it.
        UnsupportedTestsError: The tests check nothing, or cannot be judged as `require_trust` demands.
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
        """Check an answer.

        Args:
            answer: The model's answer, prose and fences included.
            prompt: The prompt; its examples are checked, and its signature completes a bare body.

        Raises:
            SandboxUnavailableError: No sandbox can be started.
            SandboxFailureError: The sandbox broke, so that nothing is known about the program.
        """
        if len(answer) > LONGEST_PROGRAM:
            error = f"the answer has {len(answer):,} characters, and at most {LONGEST_PROGRAM:,} are checked"
            return Report(passed=False, checks=(CheckResult("code", passed=False, error=error),))
        try:
            programs = extract_programs(answer, prompt)
        except Exception as error:  # noqa: BLE001 - source that makes a parser raise anything is itself at fault
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
        # all programs failed: the one that passed most checks tells most
        return max(reports, key=lambda report: len(report.checks))

    def _verify_program(self, code: str, prompt: str) -> Report:
        found_examples = read_examples(prompt) if "examples" in self.checks else FoundExamples((), ())
        checks = list(self.checks)
        if not self.tests and (self.io_pairs or not found_examples.examples) and reads_standard_input_when_loaded(code):
            # a script is run with its input, and not loaded without any
            checks = [check for check in checks if check not in ("imports", "examples")]
        tested = not {"tests", "pairs"}.isdisjoint(checks) or ("examples" in checks and bool(found_examples.examples))
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
            return Report(False, (self._limit(result),), seconds, code, unchecked_examples=unchecked, tested=tested)
        if "unsupported" in verdict:
            raise UnsupportedTestsError(f"{verdict['unsupported']}; no candidate was judged")
        results = tuple(CheckResult(**check) for check in verdict["checks"])
        passed = all(check.passed for check in results)
        return Report(passed, results, seconds, code, verdict["trust"], verdict["python"], unchecked, tested)

    def fingerprint(self, answer: str) -> str:
        """Return equal text for programs that differ only in comments, formatting, docstrings and local names.

        Args:
            answer: The model's answer, prose and fences included.
        """
        if len(answer) <= LONGEST_PROGRAM:
            # source that cannot be parsed equals only its own text
            with contextlib.suppress(Exception):
                return "\n".join(normalize_program(program) for program in extract_programs(answer))
        return hashlib.sha256(answer.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def _seconds(self) -> float:
        """Return the limit of each judge in wall-clock seconds."""
        if self.timeout is not None:
            return self.timeout
        return float(getattr(getattr(self.sandbox, "limits", None), "timeout", 10.0))

    def _judge(self, payload: dict[str, Any]) -> tuple[ExecResult, dict[str, Any] | None]:
        """Run the judges, and return how their process ended and the verdict that carries the nonce, if any."""
        nonce = secrets.token_hex(16)
        # as an escape, a lone surrogate passes the encoder here and is rejected by the compiler inside
        feed = json.dumps({**payload, "nonce": nonce}, ensure_ascii=True).encode("ascii")
        # the first judge, the second judge and the pairs each have their own time limit
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
        """Describe why the supervisor ended before it reported a result: a limit of the sandbox, or the program.

        Raises:
            SandboxFailureError: The sandbox is at fault, since not even a program that does nothing can be judged.
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
        """Return whether a program that does nothing can be judged; if so, the program caused an earlier failure."""
        empty = {"source": "", "checks": ["syntax", "imports"], "examples": [], "tests": "", "pairs": []}
        payload = {**empty, "plan": asdict(_NO_TESTS), "seconds": 10.0, "require_trust": "same_process"}
        return self._judge(payload)[1] is not None


def _planned(tests: str, entry_point: str | None) -> tuple[str, TestPlan]:
    """Return the tests as they are run, and their plan.

    Raises:
        ValueError: The tests do not compile, or define ``check(candidate)`` and nothing calls it.
        UnsupportedTestsError: The tests check nothing.
    """
    try:
        tree = parse_tests(tests)
    except PARSE_ERRORS:
        tree = None  # the tests are an interactive session, or have an error that the plan reports
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
    """Return whether the text that an example expects is the source of a literal."""
    tree = parse_expression(example.expected, longest=LONGEST_PROGRAM)
    if tree is None:
        return False
    try:
        ast.literal_eval(tree)
    except PARSE_ERRORS:
        return False
    return True


def _defines_check_alone(tests: ast.Module) -> bool:
    """Return whether tests consist of a function ``check`` of one parameter that nothing calls."""
    quiet = (ast.FunctionDef, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
    functions = [node for node in tests.body if isinstance(node, ast.FunctionDef)]
    return (
        [function.name for function in functions if not function.name.startswith("_")] == ["check"]
        and all(len(function.args.args) == 1 for function in functions if function.name == "check")
        and all(isinstance(node, quiet) or _is_text(node) for node in tests.body)
    )


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
