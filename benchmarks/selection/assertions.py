"""Choose by assertions that a model wrote, on recordings of solutions and assertions; prints Markdown tables.

    python benchmarks/selection/assertions.py SOLUTIONS TEST_CASES PROBLEMS [--problems 80] [--kept 40]

SOLUTIONS and TEST_CASES are the recordings that the authors of CodeT (arXiv 2207.10397) published for HumanEval, JSON
lines with `prompt` and `samples`; PROBLEMS is HumanEval itself, whose tests decide which solutions are right.
Everything runs in a sandbox, all solutions of a problem in one. Ties count by the share of right candidates among them;
intervals are 95% bootstrap intervals over problems.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from nad_sandbox import auto_sandbox
from numpy.typing import NDArray

from nad_agents.evaluation.statistics import Resampling
from nad_agents.evaluation.tables import Table, percent, to_markdown
from nad_agents.selectors.assertions import b4_scores, codet_scores, prune

SIZES = (8, 16, 64)
DRAWS = 20
PER_SAMPLE = 5

# runs every program on every check in a process of its own, each check for at most 0.3 seconds of processor time
HARNESS = """
import json, os, signal, sys
given = json.load(sys.stdin)
class Late(BaseException):
    pass
def late(*_):
    raise Late
signal.signal(signal.SIGPROF, late)
out = os.dup(1)
sink = os.open(os.devnull, os.O_RDWR)
rows = []
for program in given["programs"]:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(sink, 1)
        os.dup2(sink, 0)
        sys.stdin = open(os.devnull)
        names = {"__name__": "program"}
        late_left = 3
        for number, check in enumerate(["", *given["checks"]]):
            passed = False
            if late_left > 0:
                try:
                    signal.setitimer(signal.ITIMER_PROF, 0.3 if number > 1 else 3)
                    exec(check if number else program, names)
                    passed = True
                except Late:
                    late_left -= 1
                except BaseException:
                    pass
                finally:
                    signal.setitimer(signal.ITIMER_PROF, 0)
            if number == 0 and not passed:
                os._exit(0)
            if number:
                os.write(writing, b"1" if passed else b"0")
        os._exit(0)
    os.close(writing)
    bits = b""
    while part := os.read(reading, 4096):
        bits += part
    os.close(reading)
    os.waitpid(child, 0)
    rows.append(bits.decode().ljust(len(given["checks"]), "0"))
os.write(out, json.dumps(rows).encode())
"""


def lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _function(prompt: str) -> str:
    """Return the function that a prompt asks for, by which the files are put together, as they differ in order."""
    return re.findall(r"^def (\w+)\(", prompt, re.MULTILINE)[-1]


def written_assertions(samples: Iterable[str], entry_point: str, kept: int) -> list[str]:
    """Return the assertions that were sampled most often."""
    counts: Counter[str] = Counter()
    for sample in samples:
        parts = [part.strip() for part in f"assert {sample}".split("assert ")[1:] if entry_point in part]
        for part in parts[:PER_SAMPLE]:
            text = f"assert {part}"
            try:
                tree = ast.parse(text)
            except (SyntaxError, ValueError):
                continue
            if len(tree.body) == 1 and isinstance(tree.body[0], ast.Assert):
                counts[ast.unparse(ast.Assert(tree.body[0].test, None))] += 1
    return [text for text, _ in counts.most_common(kept)]


def outcomes(sandbox: Any, solution: Mapping[str, Any], written: Mapping[str, Any], task: Mapping[str, Any], kept: int):
    """Return which solutions are right, bool [solutions], and which assertions each one passes; None without any."""
    assertions = written_assertions(written["samples"], task["entry_point"], kept)
    if not assertions:
        return None
    programs = [solution["prompt"] + sample for sample in solution["samples"][: SIZES[-1]]]
    distinct = list(dict.fromkeys(programs))
    hidden = f"{task['test']}\ncheck({task['entry_point']})"
    given = json.dumps({"programs": distinct, "checks": [hidden, *assertions]})
    result = sandbox.run_python(HARNESS, stdin=given.encode(), timeout=240)
    try:
        rows = dict(zip(distinct, json.loads(result.stdout), strict=True))
    except ValueError:
        print(f"{task['task_id']} left out: {result.stderr[-200:]!r}")
        return None
    table = np.array([[bit == "1" for bit in rows[program]] for program in programs])
    return table[:, 0], table[:, 1:]


def pruned(
    score: Callable[[NDArray[np.bool_]], NDArray[np.float64]],
) -> Callable[[NDArray[np.bool_]], NDArray[np.float64]]:
    def scored(passed: NDArray[np.bool_]) -> NDArray[np.float64]:
        programs, left = prune(passed)
        values = np.full(len(passed), -np.inf)
        values[programs] = score(passed[np.ix_(programs, left)])
        return values

    return scored


WAYS: dict[str, Callable[[NDArray[np.bool_]], NDArray[np.float64]]] = {
    "random": lambda passed: np.zeros(len(passed)),
    "most assertions passed": lambda passed: passed.sum(axis=1).astype(np.float64),
    "codet": codet_scores,
    "b4": b4_scores,
    "codet, pruned": pruned(codet_scores),
    "b4, pruned": pruned(b4_scores),
}


def results_table(judged: list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> Table:
    """Return the accuracy of every way to choose, its gain over random, and what pruning changes."""
    sample, cells = Resampling(len(judged)), {way: [] for way in (*WAYS, "any of N")}
    for size in SIZES:
        right = {way: np.zeros(len(judged)) for way in cells}
        for place, (correct, passed) in enumerate(judged):
            rng = np.random.default_rng([size, place])
            draws = 1 if size >= len(correct) else DRAWS
            for _ in range(draws):
                members = rng.choice(len(correct), min(size, len(correct)), replace=False)
                for way, score in WAYS.items():
                    values = np.round(score(passed[members]), 9)
                    right[way][place] += correct[members][values == values.max()].mean() / draws
                right["any of N"][place] += correct[members].any() / draws
        for way, row in cells.items():
            against = "random" if way in ("codet", "b4") else way.removesuffix(", pruned")
            text = percent(sample.mean(right[way]))
            if against != way:
                text += f" ({percent(sample.mean(right[way] - right[against]), signed=True)})"
            row.append(text)
    return ("choice", *(f"N = {size}" for size in SIZES)), [(way, *row) for way, row in cells.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("solutions", type=Path)
    parser.add_argument("test_cases", type=Path)
    parser.add_argument("tasks", type=Path)
    parser.add_argument("--problems", type=int, default=80, help="number of problems, drawn at random")
    parser.add_argument("--kept", type=int, default=40, help="most frequent assertions that are kept for each problem")
    options = parser.parse_args()
    tasks = {task["entry_point"]: task for task in lines(options.tasks)}
    recorded = [
        (solution, written, tasks[_function(solution["prompt"])])
        for solution, written in zip(lines(options.solutions), lines(options.test_cases), strict=True)
    ]
    chosen = sorted(np.random.default_rng(0).permutation(len(recorded))[: options.problems].tolist())
    with auto_sandbox(parallel=1) as sandbox:
        found = [outcomes(sandbox, *recorded[place], options.kept) for place in chosen]
    judged = [one for one in found if one is not None]
    print(f"{len(judged)} problems, assertions right: ", end="")
    share = np.mean([passed[correct].all(axis=0).mean() for correct, passed in judged if correct.any()])
    print(f"{100 * share:.0f}% pass with all right solutions\n")
    print(to_markdown(results_table(judged)))
    print("\nBehind codet and b4 the gain over random, behind the pruned ones the difference to those not pruned.")


if __name__ == "__main__":
    main()
