"""Figures as text: an estimate with its interval, and the tables of a report as rows of strings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import get_args

from nad_agents.evaluation.evidence import Difficulty, Evidence, SweepPoint
from nad_agents.evaluation.statistics import Estimate

__all__ = ["difficulty_table", "findings_table", "percent", "plain", "selector_table", "sweep_table", "to_markdown"]

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Headers and rows."""


def percent(estimate: Estimate, *, signed: bool = False) -> str:
    """A share in percent with its interval, such as "48.2 [41.0, 55.1]"; a dash without data."""
    if math.isnan(estimate.value):
        return "-"
    form = "+.1f" if signed else ".1f"
    value, low, high = (format(100 * v, form) for v in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def plain(estimate: Estimate, digits: int = 2) -> str:
    """A number with its interval; a dash without data."""
    if math.isnan(estimate.value):
        return "-"
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def selector_table(evidence: Evidence) -> Table:
    """Every selector, best first, between random and the oracle."""
    head = (
        "selector",
        "accuracy, %",
        "gain over random",
        "AUROC",
        "AUROC without length",
        "with the examples, %",
        "tokens of the pick",
    )
    rows = [
        (
            row.label,
            percent(row.accuracy),
            percent(row.gain, signed=True) + (" *" if row.gain.excludes_zero else ""),
            plain(row.auroc),
            plain(row.auroc_length_controlled),
            percent(row.with_examples),
            f"{row.pick_tokens:.0f}",
        )
        for row in evidence.rows
    ]
    random = (
        f"random (Avg@{evidence.candidates})",
        percent(evidence.average),
        "",
        "",
        "",
        percent(evidence.with_examples_random),
        "",
    )
    oracle = (f"oracle (pass@{evidence.candidates})", percent(evidence.oracle), "", "", "", "", "")
    return head, [oracle, *rows, random]


def difficulty_table(evidence: Evidence) -> Table:
    """Gain over random by the problem's difficulty."""
    names = get_args(Difficulty)
    sizes = {name: evidence.rows[0].by_difficulty[name].n for name in names}
    head = ("selector", *(f"{name} (n={sizes[name]})" for name in names))
    return head, [
        (row.label, *(percent(row.by_difficulty[name], signed=True) for name in names)) for row in evidence.rows
    ]


def sweep_table(evidence: Evidence, sweep: str) -> Table:
    """Accuracy of several selectors along one sweep: "position", "width" or "candidates"."""
    points = [p for p in evidence.sweeps if p.sweep == sweep]
    labels = list(dict.fromkeys(p.label for p in points))
    settings = list(dict.fromkeys(p.setting for p in points))
    by_place: dict[tuple[int, str], SweepPoint] = {(p.setting, p.label): p for p in points}
    names = {"position": "tokens seen", "width": "neurons per token", "candidates": "candidates"}
    head = (names[sweep], *labels)
    rows = [
        (str(setting) if setting > 0 else "all", *(percent(by_place[setting, label].accuracy) for label in labels))
        for setting in settings
    ]
    return head, rows


def findings_table(evidence: Evidence) -> Table:
    """What the paper reports of neurons, re-measured on this run."""
    found = [(f"neuron count and entropy per {name}", plain(e), str(e.n)) for name, e in evidence.count_entropy.items()]
    found += [(f"activated {name}", plain(e, 0), str(e.n)) for name, e in evidence.counts.items()]
    found += [(f"similarity of {name}", plain(e, 3), str(e.n)) for name, e in evidence.agreement.items()]
    return ("figure", "value, 95% interval", "problems"), found


def to_markdown(table: Table) -> str:
    """A table in GitHub's notation."""

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |"

    head, rows = table
    return "\n".join([line(head), line("---" for _ in head), *(line(row) for row in rows)])
