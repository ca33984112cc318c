"""What a person sees in the terminal: progress while candidates grow, the table of candidates, the answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.markdown import Markdown
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from nad_agents.events import Progress as ProgressEvent
from nad_agents.types import Candidate, SamplingConfig, Selection

__all__ = ["CandidateProgress", "answer_panel", "candidate_table", "loading", "reason", "summary"]

_BEGINNING = 22
"""Columns that the beginning of a candidate's text should have."""
_ENDINGS = {"stop": "stop", "length": "limit", "pruned": "pruned", "running": "-"}
_MARKS = {True: "[green]passed[/]", False: "[red]failed[/]", None: "[dim]-[/]"}


@contextmanager
def loading(console: Console, name: str) -> Iterator[None]:
    """A spinner while a model loads."""
    with console.status(f"Loading {name} ..."):
        yield


class CandidateProgress:
    """A bar that follows the candidates of one prompt.

    Args:
        console: where to draw.
        sampling: tells how many candidates and tokens there may be.
    """

    def __init__(self, console: Console, sampling: SamplingConfig) -> None:
        self._sampling = sampling
        self._started = time.perf_counter()
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task(
            f"{sampling.n} candidates", total=sampling.max_new_tokens, speed="reading the prompt"
        )

    def __enter__(self) -> CandidateProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, event: ProgressEvent) -> None:
        """Follow one progress event."""
        seconds = max(time.perf_counter() - self._started, 1e-6)
        self._bar.update(
            self._task,
            completed=event.tokens,
            description=f"{len(event.live)} of {self._sampling.n} candidates running",
            speed=f"{event.generated} tokens, {event.generated / seconds:.0f}/s",
        )


def candidate_table(selection: Selection, width: int) -> Table:
    """The candidates in rank order, for a terminal of so many columns; a narrow one shows fewer of them."""
    candidates = selection.candidates
    groups = selection.details.get("groups") if selection.selector == "behaviour" else None
    # 1. what there is to show
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
    # 2. what fits, with room for the beginning of the text
    for droppable in ("logp", "ended", "agrees"):
        if width - _width(columns) < _BEGINNING:
            del columns[droppable]
    room = max(10, width - _width(columns) - 2)
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
    """How much of the terminal columns take, with what is between them."""
    return sum(3 + max(len(header), *map(cell_len, map(_plain, cells))) for header, cells in columns.items())


def _plain(markup: str) -> str:
    return Text.from_markup(markup).plain


def reason(selection: Selection) -> str:
    """One line that says why the winner was chosen."""
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
    if selection.selector == "behaviour":
        parts.append(_behaviour(selection))
    if best.agreement is not None:
        mean = sum(c.agreement or 0.0 for c in others) / len(others)
        parts.append(f"it agrees {best.agreement:.3f} with the others, they agree {mean:.3f} on average")
    if best.activated_neurons is not None:
        mean_neurons = sum(c.activated_neurons or 0 for c in others) / len(others)
        parts.append(f"{best.activated_neurons:,} activated neurons against {mean_neurons:,.0f}")
    return "; ".join(parts) + "."


def summary(selection: Selection) -> str:
    """Tokens and seconds in one line."""
    usage, times = selection.usage, selection.timings
    speed = usage.generated_tokens / times.decode if times.decode > 0 else 0.0
    saved = f", {usage.saved_tokens} saved by pruning" if usage.saved_tokens else ""
    verify = f", checks {times.verify:.1f} s" if selection.verified is not None else ""
    return (
        f"{selection.model}: {usage.generated_tokens} tokens in {times.decode:.1f} s ({speed:.0f}/s){saved}, "
        f"prompt {usage.prompt_tokens} tokens in {times.prefill:.2f} s, "
        f"selection {times.select * 1000:.0f} ms{verify}, seed {selection.seed}"
    )


def answer_panel(text: str, *, code: bool, title: str) -> Panel:
    """The answer, as highlighted code or rendered Markdown."""
    body: RenderableType = Syntax(text, "python", word_wrap=True) if code else Group(Markdown(text))
    return Panel(body, title=title, title_align="left", border_style="green")


def _behaviour(selection: Selection) -> str:
    """What the winner's program does, and how many do the same."""
    details = selection.details
    label = details["groups"][selection.winner]
    if label is None:
        return "it is empty"
    same, inputs = details["behaviours"][label]["size"], len(details["inputs"])
    shown = f"{details['inputs'][0].strip()} gives {details['behaviours'][label]['outcomes'][0]}"
    return f"{same} of {len(selection.candidates)} do the same on {inputs} inputs, such as {shown}"


def _letters(label: int) -> str:
    """A, B, ... Z, then AA, AB, ..."""
    letter = chr(ord("A") + label % 26)
    return letter if label < 26 else _letters(label // 26 - 1) + letter


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or value != value else f"{value:.{digits}f}"  # noqa: PLR0124 - NaN differs from itself


def _beginning(candidate: Candidate, room: int) -> str:
    text = " ".join(candidate.text.split())
    return text if len(text) <= room else text[: room - 1] + "…"
