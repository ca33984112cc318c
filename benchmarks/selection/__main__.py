"""Compare ways to choose among recorded candidates; prints Markdown tables with 95% bootstrap intervals over problems.

    python benchmarks/selection SOURCE [SOURCE ...] [--tables accuracy sampling ...] [--draws 12] [--picture cost.png]
    python benchmarks/selection RUN --title "MODEL on TASK" --page docs/page.md --picture docs/cost.png

A SOURCE is the folder of a run of `nad bench`, or the prefix FOLDER/NAME of matrices (`problems.py` describes them).
Problems of a run that are not scored yet are scored first, code in a sandbox. The picture shows accuracy against cost
for the first source, and --page writes everything to a page of the documentation. Tables:

- `accuracy`: every selector for 2, 4, 8, ... candidates, raw and length-controlled, with tokens and programs, and what
  one gains over another.
- `halves`: the selector chosen on one half of the problems, judged on the other half; for all sources together.
- `sampling`: fixed numbers of candidates, `until="passed"` and `until="decided"` on random orders.
- `confidence`: whether the estimated probability that the choice is right is so often right.
- `findings`: the paper's findings, and what explains them.
- `forms`: other forms of the vote on what programs do.
- `neurons`: a direction learned from verdicts, and the time of scoring; for runs only.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from accuracy import BySize, Choice, by_size, choices_for, difference_table, halves_table, size_table
from confidence import calibration_table, estimates, reliability_table
from findings import findings_table
from forms import forms_table
from neurons import neurons_table, speed_table
from picture import draw
from policies import replay, replay_table
from problems import Source, read_source
from rich.console import Console

from nad_agents.cli.report import score_recorded
from nad_agents.evaluation.tables import Table, to_markdown
from nad_agents.runs import RecordedRun

TABLES = ("accuracy", "halves", "sampling", "confidence", "findings", "forms", "neurons")
REPLAYED = 16
"""The tables of sampling and of confidence use at most this many candidates of a problem."""


class Page:
    """Prints tables as they come, and keeps them for a page."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def add(self, text: str) -> None:
        print(text, end="\n\n", flush=True)
        self.parts.append(text)

    def table(self, title: str, table: Table, note: str = "") -> None:
        self.add("\n\n".join(part for part in (f"### {title}", note, to_markdown(table)) if part))

    def write(self, path: Path, sources: Sequence[Source], picture: Path | None) -> None:
        """Write the page, with how it was made at the top."""
        about = (
            f"# Choosing: {', '.join(source.title for source in sources)}\n\n"
            "Written by `python benchmarks/selection RUN --page PAGE --picture PICTURE`. Figures are problems solved "
            "in %; intervals in brackets are 95% bootstrap intervals over problems. What the ways to choose do stands "
            "under [choosing among candidates](selection.md)."
        )
        shown = [] if picture is None else [f"![Problems solved against tokens and programs]({picture.name})"]
        path.write_text("\n\n".join([about, *shown, *self.parts]) + "\n", encoding="utf-8")


def measured(source: Source, draws: int) -> tuple[Source, list[Choice], list[BySize]]:
    choices = choices_for(source.problems)
    most = len(source.problems[0])
    sizes = [size for size in (2, 4, 8, 16) if size < most] + [most]
    return source, choices, by_size(source.problems, choices, sizes, draws)


def tables(
    page: Page, source: Source, chosen: Sequence[str], draws: int, picture: Path | None
) -> tuple[Source, list[Choice], list[BySize]] | None:
    """Add the tables of one source; return what `halves` needs of it."""
    problems, n = source.problems, len(source.problems[0])
    share = f" of {source.recorded}, a random part of the task" if source.recorded > len(problems) else ""
    page.add(f"## {source.title}: {len(problems)} problems{share}, {n} candidates")
    result = None
    if {"accuracy", "halves", "findings"} & set(chosen):
        result = measured(source, draws)
        _, choices, found = result
        if "accuracy" in chosen:
            note = RAW if any(problem.examples is not None for problem in problems) else SUBSETS
            page.table("Accuracy by number of candidates", size_table(found, choices, controlled=False), note)
            page.table("Without the effect of length", size_table(found, choices, controlled=True), CONTROLLED)
            page.table("Differences, points", difference_table(found, choices))
        if "findings" in chosen:
            page.table("The paper's findings", findings_table(problems, found[-1], choices), FINDINGS)
    if "sampling" in chosen or picture is not None:
        most = min(n, REPLAYED)
        replayed = replay(problems, draws, most)
        if "sampling" in chosen:
            page.table(f"Sampling up to {most} candidates", replay_table(replayed), SAMPLING)
        if picture is not None:
            draw(replayed, f"{source.title}, up to {most} candidates, {len(problems)} problems", picture)
    if "confidence" in chosen and problems[0].auto.name != "nad_fusion":
        kinds = estimates(problems, min(n, REPLAYED), draws)
        page.table("Confidence: calibration", calibration_table(kinds, len(problems)), CALIBRATION)
        page.table("Confidence: reliability", reliability_table(kinds, len(problems)))
    if "forms" in chosen and any(problem.outcomes is not None for problem in problems):
        sizes = [size for size in (4, 8, 16) if size < n] + [n]
        page.table("Other forms of the vote, points against behaviour", forms_table(problems, sizes, draws))
    if "neurons" in chosen and problems[0].has_neurons:
        page.table("Learned from verdicts", neurons_table(problems))
        page.table("Time of scoring", speed_table(problems))
    return result


SUBSETS = "Means over random subsets."
RAW = (
    f"{SUBSETS} Examples checked: the first in rank that passes the examples in the prompt. All "
    "checked: only candidates that pass them vote."
)
CONTROLLED = (
    "The pick by what is left of the score after a least-squares line on the candidates' lengths. AUROC is within "
    "problems, of all candidates."
)
FINDINGS = "arXiv 2510.26277. Only problems with right and wrong candidates count in the comparisons of the two."
SAMPLING = (
    "Replayed on random orders. `against all`: the same choice from all candidates. Waves are candidates per wave."
)
CALIBRATION = (
    "Mean distance between the estimated probability and the share of right picks, over bins of a fifth, in points."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", type=Path)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--draws", type=int, default=12, help="random subsets or orders for each problem")
    parser.add_argument("--workers", type=int, default=2, help="programs that are scored at the same time")
    parser.add_argument("--title", nargs="+", default=[], help="what each source is, in words")
    parser.add_argument("--picture", type=Path, help="file of the picture of accuracy against cost")
    parser.add_argument("--page", type=Path, help="file of the page of Markdown")
    options = parser.parse_args()
    page, sources, found = Page(), [], []
    for number, path in enumerate(options.sources):
        if (path / "run.json").exists():
            score_recorded(Console(stderr=True), RecordedRun(path), workers=options.workers, timeout=10.0)
        source = read_source(path)
        if number < len(options.title):
            source = replace(source, title=options.title[number])
        sources.append(source)
        found.append(tables(page, source, options.tables, options.draws, options.picture if number == 0 else None))
    if "halves" in options.tables:
        title = "The selector that runs nothing, chosen on one half of all problems, points"
        page.table(title, halves_table([one for one in found if one is not None]))
    if options.page is not None:
        page.write(options.page, sources, options.picture)


if __name__ == "__main__":
    main()
