"""The tables of a report as rows of strings, and estimates with their intervals as text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import get_args

from nad_agents.evaluation.evidence import Difficulty, Evidence, SelectorRow
from nad_agents.evaluation.statistics import Estimate
from nad_agents.evaluation.sweeps import SweepPoint, frontier, setting_name
from nad_agents.evaluation.variants import EVERYTHING

__all__ = [
    "SWEEPS",
    "Table",
    "difficulty_table",
    "findings_table",
    "frontier_table",
    "held_out_table",
    "percent",
    "plain",
    "reliability_table",
    "selector_table",
    "short_table",
    "significance_marks",
    "sweep_table",
    "to_markdown",
]

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Column headers and rows."""


def percent(estimate: Estimate, *, signed: bool = False) -> str:
    """Format a share in percent with its interval, such as "48.2 [41.0, 55.1]"; a dash without data.

    Args:
        estimate: The share, from 0 to 1, with its interval.
        signed: Whether a gain is shown with its sign.
    """
    if math.isnan(estimate.value):
        return "-"
    form = "+.1f" if signed else ".1f"
    # adding 0 makes a zero of a rounded -0.0
    value, low, high = (format(round(100 * v, 1) + 0.0, form) for v in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def plain(estimate: Estimate, digits: int = 2) -> str:
    """Format a number with its interval; a dash without data.

    Args:
        estimate: The number with its interval.
        digits: Number of decimal places.
    """
    if math.isnan(estimate.value):
        return "-"
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def significance_marks(row: SelectorRow) -> str:
    """Return two asterisks for a gain that holds among all selectors, one if its interval excludes 0, else nothing."""
    return " **" if row.stands_alone else " *" if row.gain.excludes_zero else ""


def selector_table(evidence: Evidence) -> Table:
    """Make the table of every selector, best first, between oracle and random."""
    head = (
        "selector",
        "accuracy, %",
        "gain over random",
        "AUROC",
        "AUROC without length",
        "with the examples, %",
        "gain over random with the examples",
        "tokens generated",
        "saved, %",
        "tokens of the pick",
        "selection, ms",
    )
    rows = [
        (
            row.label,
            percent(row.accuracy),
            percent(row.gain, signed=True) + significance_marks(row),
            plain(row.auroc),
            plain(row.auroc_length_controlled),
            percent(row.with_examples),
            percent(row.gain_with_examples, signed=True),
            f"{row.tokens:.0f}",
            f"{100 * row.saved:.0f}",
            f"{row.pick_tokens:.0f}",
            f"{row.milliseconds:.1f}",
        )
        for row in evidence.rows
    ]
    n, blank = evidence.candidates, ("",) * 3
    random = (
        f"random (Avg@{n})",
        percent(evidence.average),
        *blank,
        percent(evidence.with_examples_random),
        "",
        f"{evidence.tokens / n:.0f}",
        f"{100 * (1 - 1 / n):.0f}",
        f"{evidence.tokens / n:.0f}",
        "",
    )
    oracle = (f"oracle (pass@{n})", percent(evidence.oracle), *blank, "", "", f"{evidence.tokens:.0f}", "0", "", "")
    return head, [oracle, *rows, random]


def short_table(evidence: Evidence) -> Table:
    """Make the table of selectors with columns narrow enough for a terminal."""
    head = ("selector", "accuracy, %", "gain over random", "AUROC", "no length", "examples, %", "ms")
    rows = [
        (
            row.label,
            percent(row.accuracy),
            percent(row.gain, signed=True) + significance_marks(row),
            _value(row.auroc, 1, ".2f"),
            _value(row.auroc_length_controlled, 1, ".2f"),
            _value(row.with_examples, 100, ".1f"),
            f"{row.milliseconds:.1f}",
        )
        for row in evidence.rows
    ]
    oracle = (f"oracle (pass@{evidence.candidates})", percent(evidence.oracle), "", "", "", "", "")
    checked = _value(evidence.with_examples_random, 100, ".1f")
    random = (f"random (Avg@{evidence.candidates})", percent(evidence.average), "", "", "", checked, "")
    return head, [oracle, *rows, random]


def _value(estimate: Estimate, factor: int, form: str) -> str:
    return "-" if math.isnan(estimate.value) else format(factor * estimate.value, form)


def difficulty_table(evidence: Evidence) -> Table:
    """Make the table of gain over random and AUROC by the problem's difficulty."""
    names = get_args(Difficulty)
    sizes = {name: evidence.rows[0].by_difficulty[name].n for name in names}
    head = (
        "selector",
        *(f"gain, {name} (n={sizes[name]})" for name in names),
        *(f"AUROC, {name}" for name in names),
    )
    return head, [
        (
            row.label,
            *(percent(row.by_difficulty[name], signed=True) for name in names),
            *(plain(row.auroc_by_difficulty[name]) for name in names),
        )
        for row in evidence.rows
    ]


SWEEPS = {
    "position": ("Selecting early: accuracy by tokens seen, %", "tokens seen"),
    "width": ("Accuracy by neurons per token, %", "neurons per token"),
    "neighbours": ("Accuracy by neighbours of knn, %", "neighbours"),
    "candidates": ("Accuracy by number of candidates, random subsets, %", "candidates"),
    "weights": ("Accuracy by weights of nad_fusion, %", "agreement:sparsity:confidence"),
}
"""Title and first column of each sweep's table."""


def sweep_table(evidence: Evidence, sweep: str) -> Table:
    """Make the table of accuracy along one sweep, with tokens where the sweep changes them.

    Args:
        evidence: The figures.
        sweep: A key of `SWEEPS`.
    """
    points = [p for p in evidence.sweeps if p.sweep == sweep]
    labels = list(dict.fromkeys(p.label for p in points))
    settings = list(dict.fromkeys(p.setting for p in points))
    by_setting: dict[tuple[int | str, str], SweepPoint] = {(p.setting, p.label): p for p in points}
    costs = sweep in ("position", "candidates")

    def cost(setting: int | str) -> tuple[str, ...]:
        # averaged, because selectors' costs differ by the length of their picks
        mine = [by_setting[setting, label] for label in labels]
        tokens, saved = (sum(getattr(p, name) for p in mine) / len(mine) for name in ("tokens", "saved"))
        return (f"{tokens:.0f}", f"{100 * saved:.0f}") if costs else ()

    head = (SWEEPS[sweep][1], *(("tokens generated", "saved, %") if costs else ()), *labels)
    rows = [
        (
            setting_name(sweep, setting),
            *cost(setting),
            *(percent(by_setting[setting, label].accuracy) for label in labels),
        )
        for setting in settings
    ]
    return head, rows


def frontier_table(evidence: Evidence) -> Table:
    """Make the table of the fewest tokens for each accuracy, among positions and numbers of candidates."""
    head = ("selector", "setting", "tokens generated", "saved, %", "accuracy, %", "gain over random")
    return head, [
        (
            point.label,
            f"after {point.setting} tokens"
            if point.sweep == "position" and point.setting != EVERYTHING
            else f"{point.setting if point.sweep == 'candidates' else evidence.candidates} candidates, whole",
            f"{point.tokens:.0f}",
            f"{100 * point.saved:.0f}",
            percent(point.accuracy),
            percent(point.gain, signed=True),
        )
        for point in frontier(evidence.sweeps)
    ]


def held_out_table(evidence: Evidence) -> Table:
    """Make the table of choices on one half of the problems and their worth on the other."""
    head = ("chosen on one half", "choice", "accuracy on the other half, %", "gain over random there", "tokens there")
    return head, [
        (
            held.question,
            held.choice,
            percent(held.accuracy),
            percent(held.gain, signed=True),
            "" if math.isnan(held.tokens) else f"{held.tokens:.0f}",
        )
        for held in evidence.held_out
    ]


def findings_table(evidence: Evidence) -> Table:
    """Make the table of the paper's findings about neurons, re-measured on this run."""
    found = [(f"neuron count and entropy per {name}", plain(e), str(e.n)) for name, e in evidence.count_entropy.items()]
    found += [(f"activated {name}", plain(e, 0), str(e.n)) for name, e in evidence.counts.items()]
    found += [(f"similarity of {name}", plain(e, 3), str(e.n)) for name, e in evidence.agreement.items()]
    return ("figure", "value, 95% interval", "problems"), found


def reliability_table(evidence: Evidence) -> Table:
    """Make the table that compares the estimated probability that a pick is right with the share of right picks."""
    head = ("estimated probability", "right picks, %", "problems")
    return head, [(f"{mean:.2f}", percent(accuracy), str(accuracy.n)) for mean, accuracy in evidence.reliability]


def to_markdown(table: Table) -> str:
    """Format a table in GitHub's Markdown."""

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |"

    head, rows = table
    return "\n".join([line(head), line("---" for _ in head), *(line(row) for row in rows)])
