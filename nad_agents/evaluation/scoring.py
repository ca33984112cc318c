"""Score a run: run code in a sandbox against the problem's tests, and compare other answers with the right one.

Code is judged twice: by the problem's hidden tests, which decide whether it is correct, and by the examples in its
prompt, which a user has, too. An answer need not repeat imports and helpers that the prompt brings along. Answers with
the same fingerprint are run once. In addition, all candidates of a problem run on the same inputs without expected
output; the selector `behaviour` counts their agreement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nad_agents.evaluation.answer_matching import final_answer, same_answer
from nad_agents.evaluation.verdicts import ProblemVerdicts, append_verdicts, read_verdicts
from nad_agents.exceptions import ConfigurationError, VerificationError
from nad_agents.rollouts import RolloutGroup
from nad_agents.runs import RecordedRun
from nad_agents.selectors.observations import label_outcomes

if TYPE_CHECKING:
    from nad_sandbox import BehaviourRunner, Report, Sandbox

__all__ = ["score_run", "unscored"]


def score_run(
    run: RecordedRun,
    *,
    sandbox: Sandbox | None = None,
    timeout: float = 10.0,
    workers: int = 2,
    observe: bool = True,
    on_problem: Callable[[ProblemVerdicts, int], None] | None = None,
) -> int:
    """Score the problems that are recorded and not scored yet; this may be called while the run is being recorded.

    Args:
        run: The run.
        sandbox: Where code is run; only code problems need it.
        timeout: Time limit of a program with its tests, in seconds.
        workers: Number of programs that run at the same time.
        observe: Whether to run all candidates of a problem on the same inputs, for the selector `behaviour`.
        on_problem: Called with each problem's verdicts, and with the number of problems scored.

    Returns:
        Number of problems scored by this call.

    Raises:
        ConfigurationError: There is code to score and no sandbox.
        VerificationError: The sandbox failed, which says nothing about the program.
    """
    todo = unscored(run, observe=observe)
    if sandbox is None and any(run.header(problem)["task"].get("kind") == "code" for problem in todo):
        msg = f"{run.folder} holds code, which is scored by running it; give a sandbox, such as auto_sandbox()"
        raise ConfigurationError(msg)
    with ThreadPoolExecutor(workers, thread_name_prefix="nad-score") as pool:
        for number, problem in enumerate(todo, 1):
            head = run.header(problem)
            if head["task"].get("kind") == "code":
                assert sandbox is not None
                group = run.group(problem, neurons=False)
                verdicts = _score_code(pool, problem, head["task"], group, sandbox, timeout, observe=observe)
            else:
                verdicts = _score_answers(problem, head["task"], [c["text"] for c in head["candidates"]])
            append_verdicts(Path(run.folder), verdicts)
            if on_problem is not None:
                on_problem(verdicts, len(run) - len(todo) + number)
    return len(todo)


def unscored(run: RecordedRun, *, observe: bool = True) -> list[str]:
    """List the recorded problems without verdicts; with `observe` also those whose programs were not observed.

    Args:
        run: The recorded run.
        observe: Whether programs are to be observed too.
    """
    known = read_verdicts(run.folder)
    return [
        problem
        for problem in run.problems
        if problem not in known
        or (observe and known[problem].outcomes is None and run.header(problem)["task"].get("kind") == "code")
    ]


def _score_code(
    pool: ThreadPoolExecutor,
    problem: str,
    task: Mapping[str, Any],
    group: RolloutGroup,
    sandbox: Sandbox,
    timeout: float,
    *,
    observe: bool,
) -> ProblemVerdicts:
    from nad_sandbox import BehaviourRunner, CodeVerifier, SandboxError
    from nad_sandbox.checks.examples import find_examples

    texts = [rollout.text for rollout in group.rollouts]
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
        outcomes = _observe(BehaviourRunner(sandbox, timeout=timeout), texts, task["question"]) if observe else None
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
        outcomes=outcomes,
    )


def _observe(runner: BehaviourRunner, texts: list[str], prompt: str) -> tuple[tuple[int, ...], ...]:
    """Return each candidate's outcomes as numbers; without observations, every list is empty."""
    observed = runner.observe(texts, prompt=prompt)
    labels = label_outcomes(observed.outcomes) if observed.inputs else np.zeros((len(texts), 0), dtype=np.int64)
    return tuple(tuple(row) for row in labels.tolist())


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
