"""Read problems from a file or from the hub, whatever benchmark they belong to.

The fields of a row decide which kind of problem it is:

| fields | benchmarks | how an answer is judged |
|---|---|---|
| prompt, test(s), entry_point | HumanEval | tests that define ``check(candidate)`` |
| text or prompt, test_list | MBPP | assert statements |
| prompt, tests | your own | tests: asserts, unittest classes, pytest functions |
| Question, Correct Answer, Incorrect Answer 1 to 3 | GPQA | the letter |
| question, problem or prompt, answer | GSM8K, MATH-500, AIME, your own | the final answer |
"""

from __future__ import annotations

import ast
import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from nad_agents.evaluation.sources import BENCHMARKS, find_problem_file, read_rows
from nad_agents.exceptions import ConfigurationError

__all__ = ["Problem", "ProblemKind", "load_problems", "parse_problem", "shuffled"]

ProblemKind = Literal["code", "answer"]
"""How an answer is judged: by running it, or by comparing its final answer."""

_CODE = "Answer with the complete function in one Python code block."
_COMPLETE = f"Complete this Python function. {_CODE}\n\n```python\n{{prompt}}\n```"
_WRITE = "{prompt}\n\nAnswer with the complete solution in one Python code block."
_WRITE_FOR = "{prompt}\n\nIt must pass these tests:\n```python\n{tests}\n```\n\n" + _CODE
_REASON = "{prompt}\n\nReason step by step, and put your final answer within \\boxed{{}}."
_CHOOSE = "{prompt}\n\n{choices}\n\nReason step by step, and put the letter of the right choice within \\boxed{{}}."


@dataclass(frozen=True)
class Problem:
    """One problem of a benchmark.

    Attributes:
        id: Identifier, unique within its file.
        kind: How an answer is judged.
        question: The problem as the benchmark has it; for HumanEval a signature with docstring.
        message: The question to the model.
        tests: Python source that a solution must pass.
        entry_point: Name of the function to pass to tests that define ``check(candidate)``.
        answer: The right answer.
    """

    id: str
    kind: ProblemKind
    question: str
    message: str
    tests: str | None = None
    entry_point: str | None = None
    answer: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the problem as JSON-serializable data."""
        return asdict(self)


def load_problems(task: str | Path, *, limit: int | None = None) -> tuple[list[Problem], dict[str, Any]]:
    """Read problems from JSON lines, CSV or Parquet.

    Args:
        task: A file, compressed with gzip or not; a benchmark's short name; or a file on the hub (see
            `nad_agents.evaluation.sources`).
        limit: Maximum number of problems to read.

    Returns:
        The problems, and where they came from: file name, SHA-256 of the file, number of problems.

    Raises:
        ConfigurationError: The file cannot be read, or a row is not a problem; the message names the line.
        MissingDependencyError: The file is Parquet and pyarrow is not installed.
    """
    path = find_problem_file(task)
    try:
        data = path.read_bytes()
    except OSError as error:
        names = ", ".join(BENCHMARKS)
        msg = (
            f"the problems {path} cannot be read: {error.strerror}; give a file of JSON lines, CSV or Parquet, or one "
            f"of {names}"
        )
        raise ConfigurationError(msg) from error
    name = str(task) if str(task).lower() in BENCHMARKS else path.name.split(".")[0]
    problems: list[Problem] = []
    seen: set[str] = set()
    for number, fields in read_rows(path, data):
        try:
            problem = parse_problem(fields, default_id=f"{name}/{len(problems)}")
        except (ValueError, TypeError, AttributeError) as error:
            msg = f"{path}, line {number}: {error}"
            raise ConfigurationError(msg) from error
        if problem.id in seen:
            msg = f"{path}, line {number}: a second problem with the id {problem.id!r}; ids must be unique"
            raise ConfigurationError(msg)
        seen.add(problem.id)
        problems.append(problem)
        if limit is not None and len(problems) >= limit:
            break
    if not problems:
        msg = f"{path} holds no problems; give one JSON object per line, or a table with one row each"
        raise ConfigurationError(msg)
    source = {"file": path.name, "sha256": hashlib.sha256(data).hexdigest(), "problems": len(problems)}
    return problems, source | ({"name": str(task)} if path != Path(task) else {})


def parse_problem(fields: Mapping[str, Any], *, default_id: str) -> Problem:
    """Make a problem from a row's fields; the module's docstring lists what is recognized.

    Args:
        fields: The row.
        default_id: Identifier for a row without one.

    Raises:
        ValueError: The fields match no kind of problem.
    """
    name = str(next((fields[key] for key in ("id", "task_id", "unique_id", "Record ID") if key in fields), default_id))
    if "Correct Answer" in fields:
        return _multiple_choice(name, fields)
    question = next((fields[key] for key in ("prompt", "question", "problem", "text") if fields.get(key)), None)
    if question is None:
        msg = f"no prompt, question, problem or text among the fields {', '.join(fields)}"
        raise ValueError(msg)
    question = str(question)
    tests = next((fields[key] for key in ("test", "tests", "test_list") if fields.get(key)), None)
    if tests is not None:
        return _code(name, question, tests, fields)
    answer = fields.get("answer", fields.get("solution"))
    if answer is None:
        msg = f"problem {name!r} has neither tests nor an answer"
        raise ValueError(msg)
    # an answer of GSM8K is the reasoning, four hashes, and the result
    final = str(answer).rsplit("####", 1)[-1].strip()
    return Problem(name, "answer", question, _REASON.format(prompt=question.strip()), answer=final)


def _code(name: str, question: str, tests: str | Sequence[str], fields: Mapping[str, Any]) -> Problem:
    entry_point = fields.get("entry_point")
    listed = isinstance(tests, list)
    source = "\n".join(tests) if isinstance(tests, list) else str(tests)
    setup = str(fields.get("test_setup_code") or "\n".join(fields.get("test_imports") or ()))
    if _is_signature(question, entry_point):
        message = _COMPLETE.format(prompt=question.rstrip())
    elif listed:
        message = _WRITE_FOR.format(prompt=question.strip(), tests=source)
    else:
        message = _WRITE.format(prompt=question.strip())
    whole = f"{setup}\n{source}".strip("\n")
    try:
        ast.parse(whole)
    # besides SyntaxError: deep nesting and long chains exhaust the parser in ways that depend on Python's version
    except (SyntaxError, ValueError, RecursionError, MemoryError, SystemError) as error:
        msg = f"the tests of problem {name!r} do not compile: {error}"
        raise ValueError(msg) from error
    calls_check = entry_point is not None and "def check(" in whole
    return Problem(name, "code", question, message, tests=whole, entry_point=entry_point if calls_check else None)


def _is_signature(question: str, entry_point: str | None) -> bool:
    return entry_point is not None and f"def {entry_point}(" in question


def _multiple_choice(name: str, fields: Mapping[str, Any]) -> Problem:
    right = str(fields["Correct Answer"]).strip()
    choices = [
        right,
        *(str(fields[f"Incorrect Answer {i}"]).strip() for i in (1, 2, 3) if f"Incorrect Answer {i}" in fields),
    ]
    # a problem has the same order of choices wherever it is in the file
    random.Random(hashlib.sha256(str(fields["Question"]).encode()).digest()).shuffle(choices)
    shown = "\n".join(f"{letter}) {choice}" for letter, choice in zip("ABCD", choices, strict=False))
    question = str(fields["Question"]).strip()
    message = _CHOOSE.format(prompt=question, choices=shown)
    return Problem(name, "answer", f"{question}\n\n{shown}", message, answer="ABCD"[choices.index(right)])


def shuffled(problems: Iterable[Problem], seed: int) -> list[Problem]:
    """Return the problems in a random order that depends on nothing but the seed and their ids.

    Args:
        problems: The problems.
        seed: Seed of the order.
    """
    return sorted(problems, key=lambda p: hashlib.sha256(f"{seed}\0{p.id}".encode()).digest())
