"""Whether candidates are correct: `verdicts.jsonl` in the run's folder, one line per problem.

A line holds the fields of `ProblemVerdicts`. A last line that a kill cut is ignored, and its problem scored again.
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
"""Name of the file of verdicts."""


@dataclass(frozen=True)
class ProblemVerdicts:
    """What scoring found of one problem's candidates, in index order.

    Attributes:
        problem: its id.
        correct: whether each candidate is right.
        examples: whether each satisfies the examples in its prompt; None where it has none.
        reasons: why each failed; empty when it passed.
        answers: final answers; None for code, and where a candidate gives none.
        scorer: what judged them.
        behaviour: how many of the candidates do the same on the same inputs, 0 for one that fails on all of them; None
            where programs were not observed.
    """

    problem: str
    correct: tuple[bool, ...]
    examples: tuple[bool, ...] | None
    reasons: tuple[str, ...]
    answers: tuple[str | None, ...] | None
    scorer: str
    behaviour: tuple[int, ...] | None = None


def append_verdicts(folder: Path, verdicts: ProblemVerdicts) -> None:
    """Add a problem's verdicts; they are on disk when this returns."""
    line = json.dumps(asdict(verdicts))
    path = folder / VERDICTS
    with path.open("a+b") as file:
        # a line that a kill cut short is closed, so that the next one stands alone
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
    """The verdicts by problem; none when nothing was scored.

    Raises:
        RunError: a line has other fields than it should.
    """
    path = folder / VERDICTS
    if not path.exists():
        return {}
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            values = json.loads(line)
        except ValueError:
            # cut by a kill; its problem is scored again
            continue
        try:
            fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            verdicts = ProblemVerdicts(**fields)
        except (TypeError, AttributeError) as error:
            msg = f"{path}, line {number}: {error}; delete the file and score again"
            raise RunError(msg) from error
        found[verdicts.problem] = verdicts
    return found
