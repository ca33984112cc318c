"""`nad select` and `nad report`: choose again from a recorded run without a model, and show what a choice is worth."""

from __future__ import annotations

import json
import math
import re
import time
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from nad_agents.exceptions import ConfigurationError

if TYPE_CHECKING:
    from nad_agents.evaluation.evidence import Evidence
    from nad_agents.evaluation.tables import Table as Rows
    from nad_agents.runs import RecordedRun

__all__ = ["report", "score", "select", "show_table"]

_NAME_WIDTH = 22
"""What a name takes at least in a narrow terminal, where it goes on in the next line."""

RunArgument = Annotated[Path, typer.Argument(help="Folder of a recorded run.")]
OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="Where the report goes; default: RUN/report.")]
SelectorOption = Annotated[str, typer.Option("--selector", "-s", help="How the best is found.")]
SelectorOptionOption = Annotated[
    list[str] | None, typer.Option("--option", help="An option of the selector, such as k=5; may be given twice.")
]
SimilarityOption = Annotated[str, typer.Option(help="How two candidates' activated neurons are compared.")]
KOption = Annotated[
    int | None, typer.Option("--k", help="Activated neurons per token; default: all that are recorded.")
]
ChunksOption = Annotated[int | None, typer.Option(help="Compare the first so many chunks only.")]
ChunkSizeOption = Annotated[int, typer.Option(help="Tokens per chunk.")]
SkipOption = Annotated[int, typer.Option("--skip-tokens", help="Leave out so many tokens at the start.")]
PrefixOption = Annotated[
    bool, typer.Option("--common-prefix", help="Compare as many tokens as the shortest candidate has.")
]
LayersOption = Annotated[str | None, typer.Option(help="Compare these layers only, such as 8:16.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one line of JSON per problem, and nothing else.")]
WorkersOption = Annotated[int, typer.Option(help="Processes that measure, programs that are checked at a time.", min=1)]
TimeoutOption = Annotated[float, typer.Option(help="Seconds for a program and its tests.", min=0.1)]

SelectorsOption = Annotated[str, typer.Option(help="Selectors to compare, such as knn,mean_logprob; all by default.")]
HalfOption = Annotated[
    int, typer.Option("--half-seed", help="Which random half of the problems defaults are chosen on.")
]


def select(
    run: RunArgument,
    selector: SelectorOption = "knn",
    option: SelectorOptionOption = None,
    similarity: SimilarityOption = "jaccard",
    k: KOption = None,
    chunks: ChunksOption = None,
    chunk_size: ChunkSizeOption = 32,
    skip_tokens: SkipOption = 0,
    common_prefix: PrefixOption = False,
    layers: LayersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Choose again from a recorded run, with any selector and any comparison; loads no model."""
    from nad_agents.evaluation.statistics import Resampling
    from nad_agents.evaluation.tables import percent
    from nad_agents.evaluation.verdicts import read_verdicts
    from nad_agents.neurons.activated_sets import ComparisonConfig
    from nad_agents.runs import RecordedRun
    from nad_agents.selectors import get_selector, rank

    comparison: dict[str, Any] = {"similarity": similarity, "top_k": k, "chunks": chunks, "chunk_size": chunk_size}
    comparison |= {"skip_tokens": skip_tokens, "common_prefix": common_prefix, "layers": _layers(layers)}
    chosen = get_selector(selector, comparison=ComparisonConfig(**comparison), **_options(option or []))
    recorded = RecordedRun(run)
    width = recorded.manifest.config.get("top_k")
    if k is not None and width is not None and k > width:
        msg = f"{width} neurons per token are recorded, fewer than k={k}; lower it, or record the run with more"
        raise ConfigurationError(msg)
    verdicts = read_verdicts(recorded.folder)
    picks, averages, seconds = [], [], []
    for problem in recorded.problems:
        group = recorded.group(problem, neurons=chosen.needs_neurons)
        started = time.perf_counter()
        scores = chosen.score(group)
        ranking = rank(scores, group)
        seconds.append(time.perf_counter() - started)
        known = verdicts.get(problem)
        if known is not None:
            picks.append(known.correct[ranking[0]])
            averages.append(sum(known.correct) / len(known.correct))
        if as_json:
            line = {
                "problem": problem,
                "pick": ranking[0],
                "ranking": ranking,
                "scores": [None if math.isnan(value) else float(value) for value in scores.values],
                "correct": None if known is None else known.correct[ranking[0]],
            }
            typer.echo(json.dumps(line))
    if as_json:
        return
    import numpy as np

    console = Console()
    mean_time = f"{1000 * sum(seconds) / max(len(seconds), 1):.1f} ms a problem"
    console.print(f"{chosen.name}: {len(recorded)} problems, {mean_time}", highlight=False)
    if picks:
        right, average = np.array(picks, dtype=np.float64), np.array(averages)
        sample = Resampling(len(right))
        gain = percent(sample.mean(right - average), signed=True)
        told = f"{percent(sample.mean(right))}% correct, random {percent(sample.mean(average))}%, gain {gain}"
        console.print(f"{told} (n={len(right)}, 95% intervals)", highlight=False, markup=False, soft_wrap=True)
    else:
        console.print(f"not scored yet; `nad report {run}` scores it", highlight=False, soft_wrap=True)


def report(
    run: RunArgument,
    out: OutOption = None,
    selectors: SelectorsOption = "all",
    workers: WorkersOption = 1,
    timeout: TimeoutOption = 10.0,
    half_seed: HalfOption = 0,
) -> None:
    """Score what is not scored yet, compare every selector, and write tables, pictures and one HTML page."""
    from nad_agents.evaluation.report import write_report
    from nad_agents.runs import RecordedRun

    compared = chosen_selectors(selectors)
    recorded, console = RecordedRun(run), Console(stderr=True)
    score(console, recorded, workers=workers, timeout=timeout)
    folder = out or recorded.folder / "report"
    with console.status("Comparing the selectors ..."):
        evidence = write_report(recorded, folder, selectors=compared, workers=workers, half_seed=half_seed)
    show_evidence(Console(), evidence)
    console.print(f"{folder / 'report.html'}", highlight=False, soft_wrap=True)


def score(console: Console, run: RecordedRun, *, workers: int, timeout: float) -> None:
    """Score what is recorded and not scored yet; code runs in a sandbox.

    Args:
        console: where progress goes.
        run: the run.
        workers: programs at a time.
        timeout: seconds for a program and its tests.
    """
    import contextlib
    from importlib.util import find_spec

    from nad_agents.evaluation.scoring import score_run, unscored

    # inputs to observe programs on are drawn by hypothesis
    observe = find_spec("hypothesis") is not None
    todo = unscored(run, observe=observe)
    if not todo:
        return
    with contextlib.ExitStack() as stack:
        sandbox = None
        if any(run.header(problem)["task"].get("kind") == "code" for problem in todo):
            from nad_sandbox import SandboxUnavailableError, auto_sandbox

            try:
                sandbox = stack.enter_context(auto_sandbox(parallel=workers))
            except SandboxUnavailableError as error:
                if unscored(run, observe=False):
                    raise
                note = f"without the selector behaviour, as programs were not observed: {error}"
                console.print(note, highlight=False, markup=False, soft_wrap=True)
                return
        bar = stack.enter_context(Progress(console=console, transient=True))
        scoring = bar.add_task("scoring", total=len(todo))
        score_run(
            run,
            sandbox=sandbox,
            timeout=timeout,
            workers=workers,
            observe=observe,
            on_problem=lambda _verdicts, _done: bar.advance(scoring),
        )


def chosen_selectors(names: str) -> list[str] | None:
    """The selectors of a list with commas; None for "all".

    Raises:
        ConfigurationError: a name is none of a selector that can be compared.
    """
    from nad_agents.evaluation.variants import FAMILIES

    if names == "all":
        return None
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in FAMILIES]
    if unknown or not chosen:
        msg = (
            f"--selectors {names!r}: cannot compare {', '.join(unknown) or 'nothing'}; choose of {', '.join(FAMILIES)}"
        )
        raise ConfigurationError(msg)
    return chosen


def show_evidence(console: Console, evidence: Evidence) -> None:
    """Print the table of selectors."""
    from nad_agents.evaluation.tables import short_table

    title = f"{evidence.problems} problems, {evidence.candidates} candidates each, {evidence.mixed} with both outcomes"
    show_table(console, short_table(evidence), title)


def show_table(console: Console, rows: Rows, title: str) -> None:
    """Print a table: whole where the output is no terminal, with as many columns as a terminal has room for."""
    head, body = rows
    widths = [max(map(cell_len, column)) for column in zip(head, *body, strict=True)]
    name = min(widths[0], _NAME_WIDTH)
    shown = len(head)
    if console.is_terminal:
        # figures stay whole, names may take two lines
        ends = accumulate(widths[1:], lambda end, width: end + 2 + width, initial=name)
        shown = sum(end <= console.width for end in ends) or 1
    else:
        console.width = max(console.width, sum(widths) + 2 * len(widths))
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for place, title_of_column in enumerate(head[:shown]):
        table.add_column(title_of_column, overflow="fold", no_wrap=place > 0, min_width=None if place else name)
    for row in body:
        table.add_row(*(cell.replace("[", "\\[") for cell in row[:shown]))
    console.print(table)


def _layers(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if match is None:
        msg = f"layers={text!r} is not a range; give first:end, such as 8:16"
        raise ConfigurationError(msg)
    return int(match[1]), int(match[2])


def _options(pairs: list[str]) -> dict[str, Any]:
    """Options of a selector: name=value, the value read as JSON where it is JSON."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            msg = f"option {pair!r} is not name=value, such as k=5"
            raise ConfigurationError(msg)
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
