"""Print every row as Markdown tables; a row that fails prints its error, and the others follow."""

from __future__ import annotations

import time

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.cells import attempt
from benchmarks.gpu.counting import step_counts
from benchmarks.gpu.families import check_families
from benchmarks.gpu.rows import ACTIVATION, LAST, ROW_SECONDS, table_rows

COUNT_SECONDS, FAMILY_SECONDS = 15, 45
"""Time of counting what steps do, and of checking the families."""


def print_report(bench: Bench, chosen: list[str] | None, limit: int | None, end: float) -> int:
    """Measure the rows, print them as Markdown tables, and return the number of rows and families that failed."""
    rows = table_rows(bench)
    names = list(rows) if chosen is None else chosen
    failed = 0

    def print_rows(those: list[str], until: float) -> None:
        nonlocal failed
        print("| what | against | measured | target |\n|---|---|---|---|", flush=True)
        for name in those:
            row, now = rows[name], time.perf_counter()
            bench.end = min(now + max(ROW_SECONDS, row.least), until)
            left = until - now
            cell = attempt(row.measure) if left >= row.least or chosen else f"not run: {left:.0f} s left"
            failed += cell.startswith("FAILED")
            print(f"| {row.what} | {row.against} | {cell} | {row.target} |", flush=True)

    # 1. what is measured
    print_rows([name for name in names if name != LAST], end - (0 if chosen else COUNT_SECONDS + FAMILY_SECONDS))
    # 2. what a step does
    print(
        "\n| a step of | operations of torch | copies | waits | kernels | copies | waits |\n"
        "|---|---|---|---|---|---|---|"
    )
    for generations in (1, 8):
        for recording in (None, ACTIVATION):
            cells = attempt(lambda g=generations, r=recording: " | ".join(step_counts(bench, g, r)))
            failed += cells.startswith("FAILED")
            what = f"{generations} request{'s' * (generations > 1)} of 2 candidates"
            print(f"| {what}{', recording' if recording else ''} | {cells} |", flush=True)
    # 3. whether it is exact
    print("\n| model family | activation | attribution |\n|---|---|---|")
    for family, found in check_families(bench.device, limit, min(end, time.perf_counter() + FAMILY_SECONDS)):
        failed += any(cell.startswith("FAILED") for cell in found.values())
        print(f"| {family} | {found['activation']} | {found.get('attribution', '')} |", flush=True)
    # 4. what takes longest
    if LAST in names:
        print()
        print_rows([LAST], end)
    return failed
