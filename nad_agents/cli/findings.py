"""What `nad doctor` finds, and how a finding is shown as soon as it is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

__all__ = ["Finding", "Status", "show_finding"]

Status = Literal["ok", "missing", "broken"]

_MARKS: dict[Status, str] = {"ok": "[green]ok[/]", "missing": "[yellow]missing[/]", "broken": "[red]broken[/]"}

_MARK_WIDTH = len("missing")
_NAME_WIDTH = len("check in the sandbox")


@dataclass(frozen=True)
class Finding:
    """The result of one check or measurement.

    Attributes:
        name: Name of the checked item.
        status: Whether the item works; a missing item limits the features, a broken one keeps models from running.
        detail: Result of the check.
        advice: How to fix the item; empty when all is well.
    """

    name: str
    status: Status
    detail: str
    advice: str = ""


def show_finding(console: Console, finding: Finding) -> None:
    """Print a finding as a row; the rows of all findings form a table.

    Args:
        console: Console that shows the row.
        finding: What was found on this machine.
    """
    row = Table.grid(padding=(0, 1))
    row.add_column(width=_MARK_WIDTH)
    row.add_column(width=_NAME_WIDTH, overflow="fold")
    row.add_column(overflow="fold")
    detail = escape(finding.detail) + (f"\n[yellow]{escape(finding.advice)}[/]" if finding.advice else "")
    row.add_row(_MARKS[finding.status], finding.name, detail)
    console.print(row)
