"""What `nad doctor` finds, and the table that shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rich.table import Table

__all__ = ["Finding", "Status", "findings_table"]

Status = Literal["ok", "missing", "broken"]

_MARKS: dict[Status, str] = {"ok": "[green]ok[/]", "missing": "[yellow]missing[/]", "broken": "[red]broken[/]"}


@dataclass(frozen=True)
class Finding:
    """The result of one check or measurement.

    Attributes:
        name: What was looked at.
        status: Whether it works; what is missing limits the features, what is broken keeps models from running.
        detail: What was found.
        advice: What to do; empty when all is well.
    """

    name: str
    status: Status
    detail: str
    advice: str = ""


def findings_table(findings: list[Finding]) -> Table:
    """Return a table with one row per finding."""
    table = Table(box=None, pad_edge=False)
    for title in ("", "what", "found"):
        table.add_column(title, overflow="fold")
    for finding in findings:
        detail = finding.detail + (f"\n[yellow]{finding.advice}[/]" if finding.advice else "")
        table.add_row(_MARKS[finding.status], finding.name, detail)
    return table
