"""Compare ways to choose among recorded candidates; prints Markdown tables with 95% bootstrap intervals over problems.

    python benchmarks/selection SOURCE [SOURCE ...] [--tables accuracy sampling ...] [--draws 12] [--picture cost.png]

A SOURCE is the folder of a run that `nad bench` recorded and `nad report` scored, or the prefix FOLDER/NAME of matrices
(`problems.py` describes them). The picture shows accuracy against cost for the first source. Tables:

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
from pathlib import Path

from accuracy import BySize, Choice, by_size, choices_for, difference_table, halves_table, size_table
from confidence import calibration_table, estimates, reliability_table
from findings import findings_table
from forms import forms_table
from neurons import neurons_table, speed_table
from picture import draw
from policies import replay, replay_table
from problems import Source, read_source

from nad_agents.evaluation.tables import Table, to_markdown

TABLES = ("accuracy", "halves", "sampling", "confidence", "findings", "forms", "neurons")
REPLAYED = 16
"""Most candidates whose sampling is replayed."""


def show(title: str, table: Table) -> None:
    print(f"### {title}\n\n{to_markdown(table)}\n", flush=True)


def measured(source: Source, draws: int) -> tuple[Source, list[Choice], list[BySize]]:
    choices = choices_for(source.problems)
    most = len(source.problems[0])
    sizes = [size for size in (2, 4, 8, 16, 32) if size < most] + [most]
    return source, choices, by_size(source.problems, choices, sizes, draws)


def tables(
    source: Source, chosen: Sequence[str], draws: int, picture: Path | None
) -> tuple[Source, list[Choice], list[BySize]] | None:
    """Print the tables of one source; return what `halves` needs of it."""
    problems, n = source.problems, len(source.problems[0])
    share = f" of {source.recorded}, in the random order of the recording" if source.recorded > len(problems) else ""
    print(f"## {source.title}: {len(problems)} problems{share}, {n} candidates\n", flush=True)
    result = None
    if {"accuracy", "halves", "findings"} & set(chosen):
        result = measured(source, draws)
        _, choices, found = result
        if "accuracy" in chosen:
            show("Accuracy, %", size_table(found, choices, controlled=False))
            show("Accuracy by the score without the effect of length, %", size_table(found, choices, controlled=True))
            show("Differences, points", difference_table(found, choices))
        if "findings" in chosen:
            show("The paper's findings", findings_table(problems, found[-1], choices))
    if "sampling" in chosen or picture is not None:
        most = min(n, REPLAYED)
        replayed = replay(problems, draws, most)
        if "sampling" in chosen:
            show(f"Sampling up to {most} candidates", replay_table(replayed))
        if picture is not None:
            draw(replayed, f"{source.title}, up to {most} candidates, {len(problems)} problems", picture)
    if "confidence" in chosen and problems[0].auto.name != "nad_fusion":
        kinds = estimates(problems, min(n, REPLAYED), draws)
        show("Confidence: calibration", calibration_table(kinds, len(problems)))
        show("Confidence: reliability", reliability_table(kinds, len(problems)))
    if "forms" in chosen and any(problem.outcomes is not None for problem in problems):
        sizes = [size for size in (4, 8, 16) if size < n] + [n]
        show("Other forms of the vote, points against behaviour", forms_table(problems, sizes, draws))
    if "neurons" in chosen and problems[0].has_neurons:
        show("Learned from verdicts", neurons_table(problems))
        show("Time", speed_table(problems))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", type=Path)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--draws", type=int, default=12, help="random subsets or orders for each problem")
    parser.add_argument("--picture", type=Path, help="file of the picture of accuracy against cost")
    options = parser.parse_args()
    found = []
    for number, path in enumerate(options.sources):
        picture = options.picture if number == 0 else None
        found.append(tables(read_source(path), options.tables, options.draws, picture))
    if "halves" in options.tables:
        title = "The selector that runs nothing, chosen on one half of all problems, points"
        show(title, halves_table([one for one in found if one is not None]))


if __name__ == "__main__":
    main()
