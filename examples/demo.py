"""The whole idea on one screen: eight candidates ranked by neuron agreement, and a sandbox that walks the ranking down.

    python examples/demo.py [--model ID] [--n 8] [--tokens 160] [--seed 0]

Beside the program that passed its tests stands the one that neurons alone would have chosen. Without Docker and without
bubblewrap it says what is missing, and shows that one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager

from nad_sandbox import CodeVerifier, Sandbox, SandboxUnavailableError, auto_sandbox, extract_code
from rich.columns import Columns
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from nad_agents import NADConfig, NeuronAgreementDecoder, SamplingConfig, Selection
from nad_agents.cli.candidate_progress import decode_with_progress
from nad_agents.models import DEFAULT_MODEL, load_model
from nad_agents.verification import Verdict, WalkResult, walk_ranking

TASK = "Write a Python function is_prime(n) that returns True if n is a prime number and False otherwise."
PROMPT = f"Answer with one complete Python code block that solves the task.\n\n{TASK}"
TESTS = "assert [n for n in range(30) if is_prime(n)] == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]"
CONFIG = NADConfig(selector="knn")
ROUNDS = 3


class Clock:
    """Prints each step with the seconds that it took."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.number = 0

    @contextmanager
    def step(self, what: str) -> Iterator[list[str]]:
        """Run a step, whose result is the text that is put into the list."""
        self.number += 1
        found: list[str] = []
        started = time.perf_counter()
        yield found
        seconds = time.perf_counter() - started
        shown = f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
        result = f": {' '.join(found)}" if found else ""
        self.console.print(f"[bold]{self.number}.[/] {what}{result} [dim]({shown})[/]", highlight=False, soft_wrap=True)


def open_sandbox(clock: Clock) -> Sandbox | None:
    """Return Docker's sandbox, else bubblewrap's, else None after saying what is missing."""
    with clock.step("sandbox") as found:
        missing = ""
        # building Docker's image takes a minute, which bubblewrap need not wait for
        for build in (False, True):
            try:
                sandbox = auto_sandbox(build=build)
            except SandboxUnavailableError as error:
                missing = str(error)
            else:
                found.append(type(sandbox).__name__.removesuffix("Sandbox"))
                return sandbox
        found.append(f"[yellow]none, so neurons alone decide.[/] {escape(missing)}")
    return None


def candidate_table(selection: Selection, verdicts: dict[int, Verdict]) -> Table:
    """Return the candidates in rank order, each with what the sandbox said of it."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), expand=True)
    for header in ("rank", "#", "agreement", "neurons", "tokens"):
        table.add_column(header, justify="right", no_wrap=True, min_width=max(2, len(header)))
    table.add_column("sandbox", no_wrap=True, overflow="ellipsis", ratio=1)
    for index in selection.ranking:
        candidate = selection.candidates[index]
        cells = [str(candidate.rank + 1), str(index), f"{candidate.score:.4f}", f"{candidate.activated_neurons:,}"]
        table.add_row(*cells, str(candidate.tokens), describe(verdicts.get(index)))
    return table


def describe(verdict: Verdict | None) -> Text:
    """Return in a few words what the sandbox said."""
    if verdict is None:
        return Text("not run", style="dim")
    if verdict.passed:
        return Text("passes", style="bold green")
    lines = verdict.feedback.splitlines()
    reason = next((line for line in lines if line.startswith(("Got:", "Error:"))), lines[0])
    return Text(f"fails  {reason}", style="red")


def program(selection: Selection, index: int, title: str, style: str) -> Panel:
    """Return a candidate's program in a frame."""
    code = extract_code(selection.candidates[index].text, TASK)
    return Panel(Syntax(code, "python", word_wrap=True, background_color="default"), title=title, border_style=style)


def show_result(console: Console, selection: Selection, walk: WalkResult | None) -> None:
    """Print the table, and the programs side by side."""
    first = selection.ranking[0]
    console.print()
    console.print(candidate_table(selection, walk.verdicts if walk else {}))
    console.print()
    if walk is None:
        console.print(program(selection, first, f"neurons alone: #{first}, not run", "yellow"))
        console.print("With Docker or bubblewrap the ranking would be walked down until a program passes its tests.")
    elif not walk.passed:
        console.print(program(selection, first, f"neurons alone: #{first}, fails", "red"))
        console.print("None of the candidates passed, in any round: this model is tiny.")
    elif walk.winner == first:
        console.print(program(selection, first, f"neurons, and the sandbox: #{first}, passes", "green"))
    else:
        alone = program(selection, first, f"neurons alone: #{first}, fails", "red")
        checked = program(selection, walk.winner, f"neurons and sandbox: #{walk.winner}, passes", "green")
        console.print(Columns([alone, checked], equal=True, expand=True, width=(console.width - 1) // 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="hub id, folder or GGUF file")
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    console = Console()
    clock = Clock(console)
    console.print(f"[bold]Task:[/] {TASK}\n", highlight=False, soft_wrap=True)

    with clock.step("model") as found:
        # in float32 a seed gives the same candidates on most machines
        loaded = load_model(args.model, dtype="float32", progress=console.print)
        decoder = NeuronAgreementDecoder(loaded)
        found.append(f"{loaded.name} on {loaded.device.type}")
    sandbox = open_sandbox(clock)
    walk = None
    for seed in range(args.seed, args.seed + ROUNDS):
        sampling = SamplingConfig(n=args.n, seed=seed, max_new_tokens=args.tokens)
        with clock.step(f"{args.n} candidates") as found:
            selection = decode_with_progress(console, decoder, PROMPT, sampling=sampling, config=CONFIG)
            found.append(
                f"{selection.usage.generated_tokens} tokens, ranked in {1000 * selection.timings.select:.0f} ms"
            )
        if sandbox is None:
            break
        with clock.step("walking down the ranking in the sandbox") as found:
            answers = [candidate.text for candidate in selection.candidates]
            walk = walk_ranking(selection.ranking, answers, CodeVerifier(sandbox, tests=TESTS), prompt=TASK)
            found.append(f"#{walk.winner} passes" if walk.passed else "none passes")
        if walk.passed:
            break
    show_result(console, selection, walk)
    if sandbox is not None:
        sandbox.close()


if __name__ == "__main__":
    main()
