"""Show on a terminal how the candidates of one prompt grow, are dropped, ranked and checked, a line for each."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from nad_agents.events import (
    CandidateGrowth,
    Compared,
    DecodingEvent,
    Finished,
    Progress,
    Pruned,
    Ranking,
    Verified,
    WinnerChosen,
)
from nad_agents.types import NADConfig, SamplingConfig, Selection, VerificationConfig
from nad_agents.verification import Verifier

if TYPE_CHECKING:
    from nad_agents.decoder import NeuronAgreementDecoder

__all__ = ["CandidateProgress", "decode_with_progress"]

_REFRESHES = 8
"""How often the display is drawn anew, per second."""
_TAIL = 400
"""Characters of a candidate's end that are kept, which is wider than any terminal."""
_STATES = {"waiting": "", "running": "", "stop": "ended", "length": "limit", "pruned": "pruned"}
_STATE_WIDTH = 8
_LEAST_TEXT = 12
"""Width below which a candidate's last words are not shown, in characters."""
_WIDTHS = {"state": 24, "bar": 56, "agrees": 72}
"""Width of the terminal from which on each column is shown."""


def decode_with_progress(
    console: Console,
    decoder: NeuronAgreementDecoder,
    prompt: str,
    *,
    sampling: SamplingConfig,
    config: NADConfig,
    verifier: Verifier | None = None,
    verification: VerificationConfig | None = None,
) -> Selection:
    """Answer one prompt while a terminal shows the candidates; any other console shows nothing.

    Args:
        console: Where the candidates are shown.
        decoder: Writes and ranks the candidates.
        prompt: The prompt.
        sampling: How the candidates are sampled.
        config: How they are compared and pruned.
        verifier: Judges the candidates in rank order; None trusts the ranking.
        verification: How they are checked in rank order.

    Raises:
        NADError: See `NeuronAgreementDecoder.decode`.
    """
    if not console.is_terminal or console.is_dumb_terminal or console.quiet:
        selection = decoder.decode(
            prompt, sampling=sampling, config=config, verifier=verifier, verification=verification
        )
        console.print()
        return selection
    progress = CandidateProgress(sampling)
    with Live(progress, console=console, transient=True, refresh_per_second=_REFRESHES):
        for event in decoder.stream(
            prompt, sampling=sampling, config=config, verifier=verifier, verification=verification, watch=True
        ):
            progress.update(event)
            if isinstance(event, Finished):
                return event.selection
    raise AssertionError("the last event is Finished")


@dataclass(frozen=True)
class _Row:
    """What is shown of one candidate.

    Attributes:
        state: A finish reason, or "waiting" before the first token.
        tokens: Number of its tokens.
        text: The end of its text.
        agreement: Its mean similarity to the others; None if there is none yet.
        check: The verdict, "checking" while the candidate may still be checked, or "".
    """

    state: str = "waiting"
    tokens: int = 0
    text: str = ""
    agreement: float | None = None
    check: str = ""

    @property
    def label(self) -> str:
        return self.check or _STATES[self.state]


@dataclass
class CandidateProgress:
    """The display, from the events of a watched stream; drawn by one thread while another updates it.

    Args:
        sampling: The sampling, with the number of candidates and their token limit.
    """

    sampling: SamplingConfig
    _rows: list[_Row] = field(default_factory=list)
    _order: tuple[int, ...] = ()
    _status: str = "reading the prompt"
    _winner: int | None = None

    def __post_init__(self) -> None:
        self._rows = [_Row() for _ in range(self.sampling.n)]
        self._started = time.monotonic()
        self._spinner = Spinner("dots")

    def update(self, event: DecodingEvent) -> None:
        """Show what an event reports.

        Args:
            event: An event of a stream with `watch`; text deltas say nothing new.
        """
        match event:
            case Progress():
                for growth in event.growth:
                    self._grow(growth)
                waiting = sum(row.state == "waiting" for row in self._rows)
                speed = event.generated / max(time.monotonic() - self._started, 1e-6)
                what = f"{len(event.live)} of {self.sampling.n} candidates running"
                if not event.live and not waiting:
                    what = f"comparing {self.sampling.n} candidates"
                self._status = f"{what}, {event.generated} tokens, {speed:.0f}/s"
            case Compared():
                others = len(event.similarity) - 1
                # the candidates of one wave among several are no whole to compare with
                if 0 < others == self.sampling.n - 1:
                    for candidate, row in enumerate(event.similarity):
                        self._change(candidate, agreement=(sum(row) - row[candidate]) / others)
            case Pruned():
                for candidate in event.dropped:
                    self._change(candidate, state="pruned")
            case Ranking():
                self._order = event.ranking
                self._status = "checking down the ranking" if event.to_check else "ranked"
                for candidate in event.to_check:
                    self._change(candidate, check="checking")
            case Verified():
                self._change(event.candidate, check="passed" if event.verdict.get("passed") else "failed")
            case WinnerChosen():
                self._winner = event.winner

    def _grow(self, growth: CandidateGrowth) -> None:
        text = (self._rows[growth.candidate].text + growth.text)[-_TAIL:]
        self._change(growth.candidate, state=growth.finish_reason, tokens=growth.tokens, text=text)

    def _change(self, candidate: int, **changes: object) -> None:
        # the drawing thread finds the row either as it was or as it is now
        self._rows[candidate] = replace(self._rows[candidate], **changes)  # type: ignore[arg-type]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the status, and below it the candidates that the terminal has room for."""
        width = options.max_width
        seconds = int(time.monotonic() - self._started)
        status = Text(f" {self._status}, {seconds // 60}:{seconds % 60:02}", no_wrap=True, overflow="ellipsis")
        head = Table.grid()
        head.add_row(self._spinner, status)
        yield head
        # the status, a line for those left out, and one on which the cursor rests
        room = max(1, console.height - 3)
        yield self._table(self._order_shown(room)[:room], width)
        if len(self._rows) > room:
            yield Text(f"and {len(self._rows) - room} more", style="dim", no_wrap=True, overflow="ellipsis")

    def _order_shown(self, room: int) -> list[int]:
        """Return the candidates best first once they are ranked; before that those that run, if not all have room."""
        if self._order:
            return list(self._order)
        in_order = list(range(len(self._rows)))
        urgency = {"running": 0, "waiting": 2}
        return sorted(in_order, key=lambda i: urgency.get(self._rows[i].state, 1)) if len(in_order) > room else in_order

    def _table(self, shown: list[int], width: int) -> Table:
        n, limit = self.sampling.n, self.sampling.max_new_tokens
        columns = {"#": len(f"#{n - 1}"), "tokens": len(str(limit))}
        columns |= {"state": _STATE_WIDTH} if width >= _WIDTHS["state"] else {}
        columns |= {"agrees": 4} if width >= _WIDTHS["agrees"] else {}
        columns |= {"bar": 20 if width >= 100 else 10} if width >= _WIDTHS["bar"] else {}
        left = width - sum(columns.values()) - len(columns) - 1
        if left >= _LEAST_TEXT:
            columns["text"] = left
        order = [name for name in ("#", "bar", "tokens", "state", "agrees", "text") if name in columns]
        table = Table.grid(padding=(0, 1, 0, 0))
        for name in order:
            justify = "right" if name in ("#", "tokens") else "left"
            table.add_column(width=columns[name], no_wrap=True, justify=justify)  # type: ignore[arg-type]
        for candidate in shown:
            row = self._rows[candidate]
            cells: dict[str, RenderableType] = {
                "#": f"#{candidate}",
                "bar": ProgressBar(total=limit, completed=row.tokens, width=columns.get("bar")),
                "tokens": str(row.tokens),
                "state": Text(row.label, style={"passed": "green", "failed": "red"}.get(row.check, "")),
                "agrees": "" if row.agreement is None else f"{row.agreement:.2f}",
                "text": Text(_end(row.text, columns.get("text", 0))),
            }
            dropped = row.state in ("pruned", "waiting") or row.check == "failed"
            style = "bold green" if candidate == self._winner else "dim" if dropped else ""
            table.add_row(*(cells[name] for name in order), style=style)
        return table


def _end(text: str, room: int) -> str:
    """Return as much of the end of a text as a line has room for, without control characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if cell_len(line) <= room:
        return line
    end, used = len(line), 1
    while end and used + cell_len(line[end - 1]) <= room:
        end -= 1
        used += cell_len(line[end])
    return f"…{line[end:]}"
