"""Scoring a run: code runs in a sandbox against the problem's tests, other answers are compared.

Code is judged twice: by the problem's hidden tests, which decide whether it is correct, and by the examples that its
prompt shows, which a user has too. Imports and helpers that the prompt brings along need not be repeated in an answer.
Answers with the same fingerprint run once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nad_agents.evaluation.verdicts import ProblemVerdicts, append_verdicts, read_verdicts
from nad_agents.exceptions import ConfigurationError, VerificationError
from nad_agents.runs import Run
from nad_agents.selectors.voting import boxed, last_number

if TYPE_CHECKING:
    from nad_sandbox import Report, Sandbox

__all__ = ["final_answer", "same_answer", "score_run"]


def score_run(
    run: Run,
    *,
    sandbox: Sandbox | None = None,
    timeout: float = 10.0,
    workers: int = 2,
    on_problem: Callable[[ProblemVerdicts, int], None] | None = None,
) -> int:
    """Score what is recorded and not scored yet; may be called while the run is being recorded.

    Args:
        run: the recorded run.
        sandbox: where code runs; needed for code problems only.
        timeout: seconds for a program and its tests.
        workers: programs that run at a time.
        on_problem: called with each problem's verdicts and how many are scored now.

    Returns:
        Number of problems scored by this call.

    Raises:
        ConfigurationError: code is to be scored without a sandbox.
        VerificationError: the sandbox broke; nothing is said of the program.
    """
    known = read_verdicts(run.folder)
    todo = [problem for problem in run.problems if problem not in known]
    if sandbox is None and any(run.head(problem)["task"].get("kind") == "code" for problem in todo):
        msg = f"{run.folder} holds code, which is scored by running it; give a sandbox, such as DockerSandbox()"
        raise ConfigurationError(msg)
    with ThreadPoolExecutor(workers, thread_name_prefix="nad-score") as pool:
        for number, problem in enumerate(todo, 1):
            head = run.head(problem)
            texts = [candidate["text"] for candidate in head["candidates"]]
            if head["task"].get("kind") == "code":
                assert sandbox is not None
                verdicts = _score_code(pool, problem, head["task"], texts, sandbox, timeout)
            else:
                verdicts = _score_answers(problem, head["task"], texts)
            append_verdicts(Path(run.folder), verdicts)
            if on_problem is not None:
                on_problem(verdicts, len(run) - len(todo) + number)
    return len(todo)


def _score_code(
    pool: ThreadPoolExecutor,
    problem: str,
    task: Mapping[str, Any],
    texts: list[str],
    sandbox: Sandbox,
    timeout: float,
) -> ProblemVerdicts:
    from nad_sandbox import CodeVerifier, SandboxError
    from nad_sandbox.examples import find_examples

    hidden = CodeVerifier(
        sandbox, checks=("syntax", "imports"), tests=task["tests"], entry_point=task["entry_point"], timeout=timeout
    )
    shown = CodeVerifier(sandbox, timeout=timeout) if find_examples(task["question"]) else None
    keys = [hidden.fingerprint(text) for text in texts]
    distinct = dict(zip(keys, texts, strict=True))

    def judge(verifier: CodeVerifier) -> dict[str, Report]:
        reports = pool.map(lambda answer: verifier.verify(answer, prompt=task["question"]), distinct.values())
        return dict(zip(distinct, reports, strict=True))

    try:
        by_tests = judge(hidden)
        by_examples = judge(shown) if shown is not None else None
    except SandboxError as error:
        msg = f"problem {problem!r} could not be scored: {error}"
        raise VerificationError(msg) from error
    return ProblemVerdicts(
        problem=problem,
        correct=tuple(by_tests[key].passed for key in keys),
        examples=tuple(by_examples[key].passed for key in keys) if by_examples is not None else None,
        reasons=tuple(_reason(by_tests[key]) for key in keys),
        answers=None,
        scorer=f"{type(sandbox).__name__}, {timeout:g} s",
    )


def _reason(report: Report) -> str:
    failed = next((check for check in report.checks if not check.passed), None)
    return "" if failed is None else f"{failed.check}: {failed.error or failed.assertion}"[:200]


def _score_answers(problem: str, task: Mapping[str, Any], texts: list[str]) -> ProblemVerdicts:
    expected = str(task["answer"])
    answers = tuple(final_answer(text, expected) for text in texts)
    correct = tuple(answer is not None and same_answer(answer, expected) for answer in answers)
    reasons = tuple(
        "" if right else "no final answer" if answer is None else "another answer"
        for right, answer in zip(correct, answers, strict=True)
    )
    return ProblemVerdicts(problem, correct, None, reasons, answers, "answer comparison")


def final_answer(text: str, expected: str) -> str | None:
    """The final answer of a text: what is boxed, else the last number where a number is expected."""
    found = boxed(text)
    if found is not None:
        return _number(found) or found
    return last_number(text) if _number(expected) is not None else None


def same_answer(answer: str, expected: str) -> bool:
    """Whether two answers are the same: as numbers, else as text without white space and TeX spacing."""
    if _number(answer) is not None and _number(expected) is not None:
        return _number(answer) == _number(expected)
    return _plain(answer) == _plain(expected)


def _number(text: str) -> str | None:
    """A number in one notation; None when the text is anything else."""
    cleaned = text.replace(",", "").replace("\\!", "").strip().strip("$%").removesuffix("\\").strip()
    try:
        value = Decimal(cleaned)
    except InvalidOperation:
        return None
    return last_number(f"{value:f}") if value.is_finite() and abs(value.adjusted()) < 100 else None


def _plain(text: str) -> str:
    for old, new in (("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"), ("\\left", ""), ("\\right", ""), ("\\!", "")):
        text = text.replace(old, new)
    for opening in ("\\text{", "\\textbf{", "\\mathrm{"):
        if text.startswith(opening) and text.endswith("}"):
            text = text[len(opening) : -1]
    return "".join(text.split()).strip("$").rstrip(".").casefold()
