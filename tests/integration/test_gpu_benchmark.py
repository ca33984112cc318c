"""The benchmark for GPUs runs without one, prints every row, and finds the neurons exact."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__, report
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.families import check_families
from benchmarks.gpu.rows import Row
from benchmarks.gpu.shapes import SHAPES, random_model

ROOT = Path(__file__).parents[2]
ROWS, FAMILIES = 16, 6
"""Rows of the first table; and families that are checked, since the unit tests check all of them on a CPU."""


def cells(table):
    """Return the cells of a Markdown table, without its head."""
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines()[2:]]


def test_every_row_is_printed():
    command = [sys.executable, "-m", "benchmarks.gpu", "--shape", "tiny", "--device", "cpu", "--pairs", "1"]
    command += ["--families", str(FAMILIES), "--seconds", "550"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    _, measured, counted, families, last = done.stdout.strip().split("\n\n")
    assert len(cells(measured)) == ROWS
    assert len(cells(last)) == 1
    # what the rows take is not checked, as the model is tiny
    assert all(re.search(r"\d", row[2]) for row in [*cells(measured), *cells(last)])
    steps = [[float(cell) for cell in row[1:]] for row in cells(counted)]
    assert len(steps) == 4
    assert all(operations > copies > 0 for operations, copies, *_ in steps)
    assert len(cells(families)) == FAMILIES
    assert {cell for row in cells(families) for cell in row[1:]} == {"exact"}


@pytest.fixture
def bench():
    shape = SHAPES["tiny"]
    return Bench(shape, random_model(shape, torch.device("cpu"), torch.float32), 1)


def test_a_row_that_fails_or_has_no_time_left_says_so_and_the_others_follow(bench, monkeypatch, capsys):
    def broken():
        raise RuntimeError("out of | memory")

    rows = {
        "bad": Row("bad", "", broken, ""),
        "slow": Row("slow", "", lambda: "1.00", "", 10**6),
        "good": Row("good", "", lambda: "1.00", ""),
    }
    monkeypatch.setattr(report, "table_rows", lambda _: rows)
    monkeypatch.setattr(report, "step_counts", lambda *_: broken())
    failed = report.print_report(bench, None, 0, time.perf_counter() + 200)
    printed = capsys.readouterr().out
    assert "| bad |  | FAILED: RuntimeError: out of / memory |  |" in printed
    assert re.search(r"\| slow \|  \| not run: \d+ s left \|", printed)
    assert "| good |  | 1.00 |  |" in printed
    assert failed == 5


def test_an_unknown_row_is_refused_with_the_names_of_the_known_ones(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu", "--shape", "tiny", "--device", "cpu", "--rows", "long", "longest"])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 2
    assert "--shape tiny has no longest, but: captured-1, captured-2, " in capsys.readouterr().err


def test_families_are_left_out_when_the_time_is_over():
    (found,) = check_families(torch.device("cpu"), 1, 0)
    assert set(found[1].values()) == {"not run: no time left"}
