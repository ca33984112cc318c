"""Scoring a run: code runs in a sandbox against the problem's tests, other answers are compared.

Code is judged twice: by the problem's hidden tests, which decide whether it is correct, and by the examples that its
prompt shows, which a user has too. Imports and helpers that the prompt brings along need not be repeated in an answer.
Answers with the same fingerprint run once. Besides, all candidates of a problem run on the same inputs, without any
expected output, which is what the selector `behaviour` votes on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nad_agents.evaluation.verdicts import ProblemVerdicts, append_verdicts, read_verdicts
from nad_agents.exceptions import ConfigurationError, VerificationError
from nad_agents.rollouts import RolloutGroup
from nad_agents.runs import RecordedRun
from nad_agents.selectors import Behaviour
from nad_agents.selectors.voting import boxed, last_number

if TYPE_CHECKING:
    from nad_sandbox import Report, Sandbox

__all__ = ["agreed_answers", "final_answer", "same_answer", "score_run", "unscored"]

_LETTER = re.compile(r"[A-E]")
_CHOSEN = re.compile(r"\W*([a-e])(?![a-z])")
_SAID = re.compile(r"answer is\W{0,12}([A-E])\b")
_DECIMAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)")
_FRACTION = re.compile(
    r"-?(\\frac(\{(?P<top>\d{1,40})\}\{(?P<bottom>\d{1,40})\}|(?P<up>\d)(?P<down>\d)))|"
    r"-?(?P<over>\d{1,40})/(?P<under>\d{1,40})"
)
_PARTS = (("top", "up", "over"), ("bottom", "down", "under"))
_SPELLINGS = (
    ("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"), ("\\left", ""), ("\\right", ""), ("\\!", ""), ("\\,", ""),
    ("\\$", ""), ("\\%", "%"), ("^\\circ", ""), ("^{\\circ}", ""),
)  # fmt: skip
_WORDS = re.compile(r"\\(?:text|textbf|mathrm)\{([^{}]*)\}")
_UNIT = re.compile(r"(?<=\d)\s*(?:\\ )?\\(?:text|mathrm)\{[^{}]*\}$")


def score_run(
    run: RecordedRun,
    *,
    sandbox: Sandbox | None = None,
    timeout: float = 10.0,
    workers: int = 2,
    observe: bool = True,
    on_problem: Callable[[ProblemVerdicts, int], None] | None = None,
) -> int:
    """Score what is recorded and not scored yet; may be called while the run is being recorded.

    Args:
        run: the recorded run.
        sandbox: where code runs; needed for code problems only.
        timeout: seconds for a program and its tests.
        workers: programs that run at a time.
        observe: also run all candidates of a problem on the same inputs, for the selector `behaviour`.
        on_problem: called with each problem's verdicts and how many are scored now.

    Returns:
        Number of problems scored by this call.

    Raises:
        ConfigurationError: code is to be scored without a sandbox.
        VerificationError: the sandbox broke; nothing is said of the program.
    """
    todo = unscored(run, observe=observe)
    if sandbox is None and any(run.head(problem)["task"].get("kind") == "code" for problem in todo):
        msg = f"{run.folder} holds code, which is scored by running it; give a sandbox, such as auto_sandbox()"
        raise ConfigurationError(msg)
    with ThreadPoolExecutor(workers, thread_name_prefix="nad-score") as pool:
        for number, problem in enumerate(todo, 1):
            head = run.head(problem)
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
    """The recorded problems that have no verdicts yet, or, with `observe`, whose programs were not observed."""
    known = read_verdicts(run.folder)
    return [
        problem
        for problem in run.problems
        if problem not in known
        or (observe and known[problem].behaviour is None and run.head(problem)["task"].get("kind") == "code")
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
        votes = Behaviour(BehaviourRunner(sandbox, timeout=timeout)).score(group).values if observe else None
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
        behaviour=None if votes is None else tuple(int(v) for v in np.nan_to_num(votes)),
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
    """The final answer of a text: what is boxed.

    Where nothing is boxed, the last number where a number is expected, and the last "answer is C" where a letter is.
    """
    found = boxed(text)
    if _LETTER.fullmatch(expected):
        named = _CHOSEN.match(_plain(found)) if found is not None else None
        said = None if found is not None else next(reversed(_SAID.findall(text)), None)
        return named[1].upper() if named else said
    if found is None:
        return last_number(text) if _value(expected) is not None else None
    value = _value(found)
    return found if value is None else str(value) if value.denominator == 1 else found


def same_answer(answer: str, expected: str) -> bool:
    """Whether two answers are the same: as numbers or fractions, else as text without white space and TeX spacing."""
    a, b = _value(answer), _value(expected)
    return a == b if a is not None and b is not None else _plain(answer) == _plain(expected)


def agreed_answers(texts: Sequence[str], answers: Sequence[str | None]) -> dict[str, str | None]:
    """Each text's final answer, answers that are the same written alike, so that they can be counted.

    Args:
        texts: candidates.
        answers: their final answers.
    """
    distinct: list[str] = []
    found: dict[str, str | None] = {}
    for text, answer in zip(texts, answers, strict=True):
        if answer is None:
            found[text] = None
            continue
        known = next((other for other in distinct if same_answer(answer, other)), None)
        if known is None:
            distinct.append(answer)
        found[text] = answer if known is None else known
    return found


def _value(text: str) -> Fraction | None:
    """A whole number, decimal or fraction; None when the text is anything else."""
    cleaned = _plain(text).replace(",", "").strip("$%")
    name, equals, rest = cleaned.rpartition("=")
    if equals and name.isalpha():
        cleaned = rest
    match = _FRACTION.fullmatch(cleaned)
    try:
        if match:
            top, bottom = (next(match[name] for name in names if match[name]) for names in _PARTS)
            return (-1 if cleaned.startswith("-") else 1) * Fraction(int(top), int(bottom))
        # a hundred digits are an answer, a million zeros an accident
        return Fraction(cleaned) if _DECIMAL.fullmatch(cleaned) and len(cleaned) < 100 else None
    except ZeroDivisionError:
        return None


def _plain(text: str) -> str:
    for old, new in _SPELLINGS:
        text = text.replace(old, new)
    text = _WORDS.sub(lambda match: match[1], text) if _WORDS.fullmatch(text) else _UNIT.sub("", text)
    return "".join(text.split()).strip("$").rstrip(".").casefold()
