"""`nad report`: score a recorded run, compare the selectors on it, and write tables, figures and an HTML page."""

from __future__ import annotations

import contextlib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from nad_agents.cli.display import show_evidence
from nad_agents.cli.options import RunArgument, SelectorsOption, TimeoutOption, WorkersOption
from nad_agents.exceptions import ConfigurationError

if TYPE_CHECKING:
    from nad_agents.runs import RecordedRun

__all__ = ["parse_selectors", "report", "score_recorded"]

OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the report; default: RUN/report.")]
HalfSeedOption = Annotated[
    int, typer.Option("--half-seed", help="Seed of the random half of the problems on which defaults are chosen.")
]


def report(
    run: RunArgument,
    out: OutOption = None,
    selectors: SelectorsOption = "all",
    workers: WorkersOption = 1,
    timeout: TimeoutOption = 10.0,
    half_seed: HalfSeedOption = 0,
) -> None:
    """Score a recorded run, compare the selectors on it, and write tables, figures and an HTML page."""
    from nad_agents.evaluation.report import write_report
    from nad_agents.runs import RecordedRun
    from nad_agents.runs.folder import make_folder

    compared = parse_selectors(selectors)
    recorded, console = RecordedRun(run), Console(stderr=True)
    folder = out or recorded.folder / "report"
    make_folder(folder)
    score_recorded(console, recorded, workers=workers, timeout=timeout)
    with console.status("Comparing the selectors ..."):
        evidence = write_report(recorded, folder, selectors=compared, workers=workers, half_seed=half_seed)
    show_evidence(Console(), evidence)
    console.print(f"{folder / 'report.html'}", highlight=False, soft_wrap=True)


def parse_selectors(names: str) -> list[str] | None:
    """Return the names in a list with commas, or None for "all".

    Raises:
        ConfigurationError: A selector is unknown or cannot be compared, or the list is empty.
    """
    from nad_agents.evaluation.variants import FAMILIES

    if names == "all":
        return None
    selectors = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in selectors if name not in FAMILIES]
    if unknown or not selectors:
        msg = (
            f"--selectors {names!r}: cannot compare {', '.join(unknown) or 'nothing'}; choose of {', '.join(FAMILIES)}"
        )
        raise ConfigurationError(msg)
    return selectors


def score_recorded(console: Console, run: RecordedRun, *, workers: int, timeout: float) -> None:
    """Score the problems of a run that are not scored yet; code runs in a sandbox.

    Args:
        console: Console that shows the progress.
        run: The recorded run.
        workers: Number of programs that are checked at the same time.
        timeout: Seconds that a program and its tests may take.

    Raises:
        SandboxUnavailableError: There is code to check and no sandbox.
    """
    from nad_agents.evaluation.scoring import score_run, unscored

    # the inputs on which programs are observed are drawn by hypothesis
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
