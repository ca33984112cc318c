"""Verdicts on candidates, stored in `verdicts.jsonl` in the run's folder, one line per problem.

A line holds the fields of `ProblemVerdicts`. An incomplete line, left by a process that was killed, is ignored, and its
problem is scored again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nad_agents.runs import RunError

__all__ = ["VERDICTS", "ProblemVerdicts", "append_verdicts", "read_verdicts"]

VERDICTS = "verdicts.jsonl"
"""Name of the file of verdicts in a run's folder."""


@dataclass(frozen=True)
class ProblemVerdicts:
    """What scoring found out about one problem's candidates, in index order.

    Attributes:
        problem: The problem's id.
        correct: Whether each candidate is right.
        examples: Whether each candidate satisfies the examples in the prompt; None if the prompt has none.
        reasons: Why each candidate failed; empty for one that passed.
        answers: Final answers, with None for candidates that give none; None for code.
        scorer: Description of what judged the candidates.
        outcomes: For each candidate, what its program does on each of the same inputs, as numbers that are equal where
            the behavior is, and below 0 for a failure (`nad_agents.selectors.observations.label_outcomes`); None if
            programs were not observed.
    """

    problem: str
    correct: tuple[bool, ...]
    examples: tuple[bool, ...] | None
    reasons: tuple[str, ...]
    answers: tuple[str | None, ...] | None
    scorer: str
    outcomes: tuple[tuple[int, ...], ...] | None = None


def append_verdicts(folder: Path, verdicts: ProblemVerdicts) -> None:
    """Append a problem's verdicts to the file; they are on disk when this returns.

    Args:
        folder: The run's folder.
        verdicts: The problem's verdicts.
    """
    line = json.dumps(asdict(verdicts))
    path = folder / VERDICTS
    with path.open("a+b") as file:
        # ends a line that was cut when a process was killed
        if file.tell() and _last_byte(path) != b"\n":
            file.write(b"\n")
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)


def read_verdicts(folder: Path) -> Mapping[str, ProblemVerdicts]:
    """Read the verdicts by problem; the result is empty if nothing was scored.

    Raises:
        RunError: A line has unexpected or missing fields.
    """
    path = folder / VERDICTS
    if not path.exists():
        return {}
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            values = json.loads(line)
        except ValueError:
            # cut when a process was killed; the problem is scored again
            continue
        try:
            fields: dict[str, Any] = {k: _as_tuples(v) for k, v in values.items()}
            verdicts = ProblemVerdicts(**fields)
        except (TypeError, AttributeError) as error:
            msg = f"{path}, line {number}: {error}; delete the file and score again"
            raise RunError(msg) from error
        found[verdicts.problem] = verdicts
    return found


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value
