"""Measure what the sandbox costs; prints Markdown tables.

Every round runs each way once, so that a busy moment of the machine affects all of them; ratios are medians over
rounds.

    python benchmarks/sandbox.py --rounds 15         # a minute; needs a Docker engine, and bubblewrap for its rows
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from nad_sandbox import BehaviourRunner, BubblewrapSandbox, CodeVerifier, DockerSandbox, SandboxUnavailableError

from nad_agents.verification import walk_ranking

# neither a shim of a version manager nor an environment with start-up files
PYTHON = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else getattr(sys, "_base_executable", sys.executable)
TASK = "def add(a: int, b: int) -> int:\n    '''Sum.\n    >>> add(1, 2)\n    3\n    '''"
TESTS = "assert add(2, 2) == 4\nassert add(-1, 1) == 0"
PYTEST = """import pytest
@pytest.mark.parametrize("a, b, c", [(2, 2, 4), (-1, 1, 0)])
def test_add(a, b, c):
    assert add(a, b) == c
"""
RIGHT = "```python\ndef add(a, b):\n    return a + b\n```"


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def bare() -> None:
    subprocess.run([PYTHON, "-I", "-S", "-c", "pass"], check=True)


def passes(verifier: CodeVerifier) -> None:
    report = verifier.verify(RIGHT, prompt=TASK)
    assert report.passed, report


def docker_run(image: str) -> None:
    command = ["docker", "run", "--rm", "--network=none", "--read-only", image, "python3", "-c", "pass"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def answers(count: int) -> list[str]:
    """Return programs that all differ and all fail the tests, so that every one of them is run."""
    return [f"```python\ndef add(a, b):\n    return a + b + {i + 1}\n```" for i in range(count)]


def proportional_kib(pid: str) -> int:
    try:
        rollup = Path("/proc", pid, "smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)


def processes() -> set[str]:
    return {entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()}


def belongs(pid: str) -> bool:
    try:
        command = Path("/proc", pid, "cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(word in command for word in ("containerd-shim", "docker-init", "READY", "bwrap"))


def memory_per_waiting(kind: type[DockerSandbox] | type[BubblewrapSandbox], count: int = 16) -> float:
    """Return the host memory (MiB, PSS) of one pre-started sandbox, including its helper processes."""
    with kind(prestart=count) as sandbox:
        before = processes()
        sandbox.wait_ready()
        new = [pid for pid in processes() - before if belongs(pid)]
        return sum(map(proportional_kib, new)) / 1024 / count


def observe(kinds: Sequence[type[DockerSandbox] | type[BubblewrapSandbox]], count: int, rounds: int) -> None:
    """Print how long it takes to run all candidates on the same inputs, two at a time; the sandboxes take turns."""
    print(f"\n| {count} candidates observed | inputs | parallel | seconds, median | range |\n|---|---|---|---|---|")
    taken: dict[str, list[float]] = {kind.__name__: [] for kind in kinds}
    inputs: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        sandboxes = [stack.enter_context(kind(parallel=2)) for kind in kinds]
        # programs that no round has seen before; the first two rounds are warm-up
        for number in range(rounds + 2):
            small = 4 if number < 2 else count
            programs = answers((number + 1) * count)[-small:]
            for sandbox in sandboxes:
                runner = BehaviourRunner(sandbox)
                sandbox.wait_ready()
                started = time.perf_counter()
                seen = runner.observe(programs, prompt=TASK).inputs
                if number >= 2:
                    taken[type(sandbox).__name__].append(time.perf_counter() - started)
                inputs[type(sandbox).__name__] = len(seen)
    for name, times in taken.items():
        print(f"| {name} | {inputs[name]} | 2 | {median(times):.1f} | {min(times):.1f} to {max(times):.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--candidates", type=int, default=64)
    parser.add_argument("--observing", action="store_true", help="measure only how long observing takes")
    arguments = parser.parse_args()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}\n")
    if arguments.observing:
        observe((DockerSandbox, BubblewrapSandbox), arguments.candidates, min(arguments.rounds, 5))
        return

    # 1. from cold: a new sandbox object, nothing started; the engine runs, the image is there
    cold = {"docker": seconds(lambda: first_check(DockerSandbox)), "bubblewrap": None}
    sandboxes: dict[str, Any] = {"docker": DockerSandbox()}
    sandboxes["docker"].check_available()
    try:
        cold["bubblewrap"] = seconds(lambda: first_check(BubblewrapSandbox))
        sandboxes["bubblewrap"] = BubblewrapSandbox()
    except SandboxUnavailableError as error:
        print(f"(no bubblewrap: {error})\n", file=sys.stderr)
    image = sandboxes["docker"].image

    # 2. one program at a time, warm
    ways: dict[str, Callable[[], object]] = {"bare `python3 -I -S -c pass`": bare}
    programs = {name: type(sandbox)() for name, sandbox in sandboxes.items()}  # a program uses its sandbox up
    for name, sandbox in sandboxes.items():
        for kind, tests in (("plain", TESTS), ("pytest", PYTEST)):
            verifier = CodeVerifier(sandbox, tests=tests)
            ways[f"{name}, whole check (syntax, imports, example, {kind} tests)"] = partial(passes, verifier)
            for _ in range(2 * sandbox.parallel):  # warm: waiting sandboxes have been sent the judge
                passes(verifier)
        ways[f"{name}, run_python('pass')"] = partial(programs[name].run_python, "pass")
    ways["`docker run --rm`"] = lambda: docker_run(image)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            for sandbox in (*sandboxes.values(), *programs.values()):
                sandbox.wait_ready()
            taken[name].append(seconds(way))
    print("| one program, warm | median ms | range ms | times bare |\n|---|---|---|---|")
    base = taken["bare `python3 -I -S -c pass`"]
    for name, times in taken.items():
        ratio = median(t / b for t, b in zip(times, base, strict=True))
        print(
            f"| {name} | {1e3 * median(times):.0f} | {1e3 * min(times):.0f} to {1e3 * max(times):.0f} | {ratio:.1f} |"
        )
    for sandbox in (*sandboxes.values(), *programs.values()):
        sandbox.close()

    # 3. a whole ranking, in which none passes
    candidates = answers(arguments.candidates)
    kinds = (DockerSandbox, BubblewrapSandbox)[: len(sandboxes)]
    print(f"\n| {len(candidates)} candidates walked | parallel | seconds | per second |\n|---|---|---|---|")
    for kind in kinds:
        for parallel in (1, 2, 4):
            with kind(parallel=parallel) as sandbox:
                verifier = CodeVerifier(sandbox, tests=TESTS)
                for _ in range(2 * parallel):
                    verifier.verify(candidates[0], prompt=TASK)
                    sandbox.wait_ready()
                order = range(len(candidates))
                spent = seconds(
                    lambda order=order, verifier=verifier, parallel=parallel: walk_ranking(
                        order, candidates, verifier, prompt=TASK, parallel=parallel
                    )
                )
            print(f"| {kind.__name__} | {parallel} | {spent:.1f} | {len(candidates) / spent:.1f} |")

    # 4. what all candidates do on the same inputs
    observe(kinds, arguments.candidates, min(arguments.rounds, 5))

    # 5. the rest
    print("\n| what | docker | bubblewrap |\n|---|---|---|")
    print(f"| first check from cold, s | {shown(cold['docker'])} | {shown(cold['bubblewrap'])} |")
    memory = " | ".join(f"{memory_per_waiting(kind):.1f}" for kind in kinds)
    print(f"| host memory of a waiting sandbox, MiB (PSS) | {memory} |{' - |' if len(kinds) == 1 else ''}")


def first_check(kind: type[DockerSandbox] | type[BubblewrapSandbox]) -> None:
    with kind() as sandbox:
        CodeVerifier(sandbox, tests=TESTS).verify(answers(1)[0], prompt=TASK)


def shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
