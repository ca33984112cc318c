"""The benchmark for GPUs runs without one, prints every row, and finds the neurons exact."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS, FAMILIES = 12, 6
"""Rows of the first table; and families that are checked, since the unit tests check all of them on a CPU."""


def test_every_row_is_printed():
    command = [sys.executable, "-m", "benchmarks.gpu", "--shape", "tiny", "--device", "cpu", "--pairs", "1"]
    command += ["--families", str(FAMILIES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    measured, counted, families = re.split(r"\n\n(?=\| a step of|\d+ of)", done.stdout.split("\n\n", 1)[1])
    rows = [line.split(" | ") for line in measured.splitlines()[2:]]
    assert len(rows) == ROWS
    assert all(re.search(r"\d", row[2]) for row in rows)
    steps = [[float(cell.strip(" |")) for cell in line.split(" | ")[1:]] for line in counted.splitlines()[2:]]
    assert len(steps) == 4
    assert all(operations > copies > 0 for operations, copies, _ in steps)
    assert families == f"{FAMILIES} of {FAMILIES} model families are recorded exactly.\n"
