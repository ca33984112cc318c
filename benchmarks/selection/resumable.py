"""Keep slow measurements of problems in a file, a line of JSON each; an interrupted run goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from problems import Problem


def measured(path: Path) -> list[dict[str, Any]]:
    """Return the measurements in a file; none if it is not there."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def measure_missing(
    path: Path, problems: Sequence[Problem], measure: Callable[[Problem], dict[str, Any]], *, parallel: int
) -> list[dict[str, Any]]:
    """Measure problems at the same time, append each measurement to the file and print it, and return the new ones."""
    found = []
    with path.open("a", encoding="utf-8") as file, ThreadPoolExecutor(parallel) as pool:
        for one in pool.map(measure, problems):
            found.append(one)
            file.write(json.dumps(one) + "\n")
            file.flush()
            print(json.dumps(one), flush=True)
    return found
