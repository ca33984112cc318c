"""Show output on the terminal: tables of candidates and selectors, answers, and that a model is being loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.markdown import Markdown
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from nad_agents.types import BEHAVIOUR_SELECTORS, Candidate, Selection

if TYPE_CHECKING:
    from nad_agents.evaluation.evidence import Evidence
    from nad_agents.evaluation.tables import Table as Rows

__all__ = [
    "answer_panel",
    "candidate_table",
    "loading",
    "reason",
    "show_evidence",
    "show_table",
    "summary",
]

_BEGINNING = 22
"""Width that the beginning of a candidate's text should have, in characters."""
_DROPPABLE = {
    ("logp", "ended", "agrees", "neurons", "tokens", "rank"): _BEGINNING,
    ("score", "does", "checks"): len("begins with") + 2,
}
"""Columns that a narrow terminal does not show, first ones first, and the width that is to be left for the text."""
_NAME_WIDTH = 22
"""Width of a selector's name in a narrow terminal, where longer names take two lines."""

_ENDINGS = {"stop": "stop", "length": "limit", "pruned": "pruned", "running": "-"}
_MARKS = {True: "[green]passed[/]", False: "[red]failed[/]", None: "[dim]-[/]"}


@contextmanager
def loading(console: Console, name: str) -> Iterator[None]:
    """Show a spinner while a model loads.

    Args:
        console: Console that shows the spinner.
        name: Name of the model.
    """
    with console.status(f"Loading {name} ..."):
        yield


def candidate_table(selection: Selection, width: int) -> Table:
    """Return a table of the candidates in rank order.

    Args:
        selection: The selection.
        width: The width of the terminal; a narrow one shows fewer columns, of which the candidate's number is the last.
    """
    candidates = selection.candidates
    groups = selection.details.get("groups") if selection.selector in BEHAVIOUR_SELECTORS else None
    # 1. collect the data to show
    columns: dict[str, list[str]] = {
        "rank": [str(c.rank + 1) for c in candidates],
        "#": [str(c.index) for c in candidates],
        "score": [_number(c.score, 4) for c in candidates],
        "agrees": [_number(c.agreement, 4) for c in candidates],
        "neurons": ["-" if c.activated_neurons is None else f"{c.activated_neurons:,}" for c in candidates],
        "tokens": [str(c.tokens) for c in candidates],
        "logp": [_number(c.mean_logprob, 3) for c in candidates],
        "ended": [_ENDINGS[c.finish_reason] for c in candidates],
    }
    if groups:
        columns["does"] = ["-" if label is None else _letters(label) for label in groups]
    if any(c.verdict is not None for c in candidates):
        columns["checks"] = [_MARKS[None if c.verdict is None else bool(c.verdict.get("passed"))] for c in candidates]
    # 2. the columns that fit, with room for the beginning of the text
    for droppables, least in _DROPPABLE.items():
        for droppable in droppables:
            if droppable in columns and width - _width(columns) < least:
                del columns[droppable]
    room = max(1, width - _width(columns) - 2)
    # 3. the table
    title = f"{len(candidates)} candidates, ranked by {selection.selector}"
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for header in columns:
        table.add_column(header, justify="left" if header in ("ended", "does", "checks") else "right", no_wrap=True)
    table.add_column("begins with", no_wrap=True)
    for index in selection.ranking:
        candidate = candidates[index]
        style = "bold green" if index == selection.winner else "dim" if candidate.finish_reason == "pruned" else ""
        cells: list[RenderableType] = [column[index] for column in columns.values()]
        table.add_row(*cells, Text(_beginning(candidate, room)), style=style)
    return table


def _width(columns: dict[str, list[str]]) -> int:
    """Return the width of columns with the space between them."""
    return sum(3 + max(len(header), *map(cell_len, map(_plain, cells))) for header, cells in columns.items())


def _plain(markup: str) -> str:
    return Text.from_markup(markup).plain


def reason(selection: Selection) -> str:
    """Return one line that says why the winner was chosen."""
    best = selection.best
    others = [c for c in selection.candidates if c.index != best.index]
    if not others:
        return "There was one candidate."
    parts = [f"Candidate #{best.index} was chosen by {selection.selector}"]
    if selection.verified:
        failed = sum(1 for c in others if c.verdict is not None and not c.verdict.get("passed"))
        parts = [f"Candidate #{best.index} is the best-ranked that passed the checks ({failed} failed before it)"]
    elif selection.verified is False:
        parts = [f"No candidate passed the checks; #{best.index} is the best-ranked"]
    if selection.selector in BEHAVIOUR_SELECTORS:
        parts.append(_behaviour(selection))
    if best.agreement is not None:
        mean = sum(c.agreement or 0.0 for c in others) / len(others)
        parts.append(f"it agrees {best.agreement:.3f} with the others, they agree {mean:.3f} on average")
    if best.activated_neurons is not None:
        mean_neurons = sum(c.activated_neurons or 0 for c in others) / len(others)
        parts.append(f"{best.activated_neurons:,} activated neurons against {mean_neurons:,.0f}")
    if selection.confidence is not None:
        parts.append(f"about {100 * selection.confidence:.0f}% likely to be right")
    return "; ".join(parts) + "."


def summary(selection: Selection) -> str:
    """Return one line with tokens and seconds."""
    usage, times = selection.usage, selection.timings
    speed = usage.generated_tokens / times.decode if times.decode > 0 else 0.0
    saved = f", about {usage.saved_tokens} saved" if usage.saved_tokens else ""
    verify = f", checks {times.verify:.1f} s" if selection.verified is not None else ""
    return (
        f"{selection.model}: {usage.generated_tokens} tokens in {times.decode:.1f} s ({speed:.0f}/s){saved}, "
        f"prompt {usage.prompt_tokens} tokens in {times.prefill:.2f} s, "
        f"selection {times.select * 1000:.0f} ms{verify}, seed {selection.seed}"
    )


def answer_panel(text: str, *, code: bool, title: str) -> Panel:
    """Return the answer as highlighted code or rendered Markdown.

    Args:
        text: The answer.
        code: Whether the answer is a Python program.
        title: Title of the panel.
    """
    body: RenderableType = Syntax(text, "python", word_wrap=True) if code else Group(Markdown(text))
    return Panel(body, title=title, title_align="left", border_style="green")


def show_evidence(console: Console, evidence: Evidence) -> None:
    """Print the table that compares the selectors, or why they cannot be compared.

    Args:
        console: Console that shows the table.
        evidence: The comparison of the selectors.
    """
    from nad_agents.evaluation.tables import short_table

    title = f"{evidence.problems} problems, {evidence.candidates} candidates each, {evidence.mixed} with both outcomes"
    if evidence.mixed:
        show_table(console, short_table(evidence), title)
    else:
        console.print(f"{title}; {100 * evidence.average.value:.1f}% of the candidates are right", highlight=False)
    for warning in evidence.warnings:
        console.print(f"[yellow]{warning}[/]", highlight=False, soft_wrap=True)


def show_table(console: Console, rows: Rows, title: str) -> None:
    """Print a table: a terminal gets as many columns as it has room for, any other output the whole table.

    Args:
        console: Console that shows the table.
        rows: The header and the rows; the first column holds names, the others hold figures.
        title: The title.
    """
    header, body = rows
    widths = [max(map(cell_len, column)) for column in zip(header, *body, strict=True)]
    name_width = min(widths[0], _NAME_WIDTH)
    shown = len(header)
    if console.is_terminal:
        # figures stay whole, and names may take two lines
        ends = accumulate(widths[1:], lambda end, width: end + 2 + width, initial=name_width)
        shown = sum(end <= console.width for end in ends) or 1
    else:
        console.width = max(console.width, sum(widths) + 2 * len(widths))
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for place, column in enumerate(header[:shown]):
        table.add_column(column, overflow="fold", no_wrap=place > 0, min_width=None if place else name_width)
    for row in body:
        table.add_row(*(cell.replace("[", "\\[") for cell in row[:shown]))
    console.print(table)


def _behaviour(selection: Selection) -> str:
    """Return how many candidates' programs behave like the winner's, with an example of the winner's behavior."""
    details = selection.details
    if "note" in details or not details["inputs"]:
        return str(details.get("note", "it is empty"))
    label = details["groups"][selection.winner]
    if label is None:
        return "it is empty"
    same, inputs = details["behaviours"][label]["size"], len(details["inputs"])
    outcomes = details["behaviours"][label]["outcomes"]
    telling = next((place for place, outcome in enumerate(outcomes) if outcome != "None"), 0)
    shown = f"{details['inputs'][telling].strip()} gives {outcomes[telling]}"
    for name, count in details.get("missing_modules", {}).items():
        shown += f"; {count} could not run, since the sandbox lacks {name}"
    if inputs == 1:
        return f"{same} of {len(selection.candidates)} do the same: {shown}"
    shown += _separation(details.get("separation"))
    if "assertions" in details:
        passed, count = details["passed"][selection.winner], len(details["assertions"])
        alike = f"{same} of {len(selection.candidates)} do the same on all of {inputs} inputs"
        return f"it passes {passed} of {count} assertions that the model wrote, and {alike}, such as {shown}"
    if selection.selector == "behaviour":
        share = f"the others do the same on {100 * selection.best.score:.0f}% of {inputs} inputs on average"
        return f"{share}, {same} of {len(selection.candidates)} on all of them, such as {shown}"
    return f"{same} of {len(selection.candidates)} do the same on all of {inputs} inputs, such as {shown}"


def _separation(details: Mapping[str, Any] | None) -> str:
    """Return what separated the two leading groups of programs and what that cost; empty if nothing did."""
    if details is None or details["decided_by"] is None:
        return ""
    first, second = details["candidates"]
    cost = f"{details['generated_tokens']} tokens, {details['questions']} questions and {details['seconds']:.1f} s"
    count = len(details["inputs"])
    return (
        f"; the {details['decided_by']} on {count} proposed inputs decided between #{first} and #{second}, for {cost}"
    )


def _letters(label: int) -> str:
    """Return the letters of a number: A, B, ... Z, then AA, AB, ..."""
    letter = chr(ord("A") + label % 26)
    return letter if label < 26 else _letters(label // 26 - 1) + letter


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or value != value else f"{value:.{digits}f}"  # noqa: PLR0124 - NaN differs from itself


def _beginning(candidate: Candidate, room: int) -> str:
    text = " ".join(candidate.text.split())
    return text if len(text) <= room else text[: room - 1] + "…"
