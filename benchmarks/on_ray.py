"""Measure replicas on Ray against one process: requests a second of best-of-N, and lost requests.

    python benchmarks/on_ray.py

Servers are started and asked one after the other, in an order and back again, so that a machine that warms up or slows
down favors none of them. `cores` is how many each replica takes, which is also the number of threads of its products.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from server_load import load

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"


@dataclass(frozen=True)
class Setup:
    name: str
    replicas: int
    cores: int
    on_ray: bool = True


SETUPS = (
    Setup("`nad serve`", 1, 1, on_ray=False),
    Setup("one replica", 1, 1),
    Setup("one replica, two cores", 1, 2),
    Setup("two replicas", 2, 1),
)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def server(setup: Setup, n: int) -> Iterator[str]:
    command = [str(Path(sys.executable).with_name("nad")), "serve", "--port", str(free_port()), "--n", str(n)]
    if setup.on_ray:
        command += ["--ray", "--ray-address", "local", "--replicas", str(setup.replicas)]
        command += ["--num-cpus", str(setup.cores)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(setup.cores), "COLUMNS": "200"}
    with tempfile.NamedTemporaryFile("w", suffix=".log", encoding="utf-8") as file:
        log = Path(file.name)
        process = subprocess.Popen(command, stderr=file, stdout=file, env=environment)
        try:
            while not (found := re.search(r"running on (http://[\d.:]+)", log.read_text(encoding="utf-8"))):
                if process.poll() is not None:
                    sys.exit(log.read_text(encoding="utf-8"))
                time.sleep(0.1)
            yield found[1]
        finally:
            process.terminate()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=32)
    options = parser.parse_args()
    rates: dict[Setup, list[float]] = {setup: [] for setup in SETUPS}
    medians: dict[Setup, list[float]] = {setup: [] for setup in SETUPS}
    lost: dict[Setup, int] = dict.fromkeys(SETUPS, 0)
    for setup in (*SETUPS, *reversed(SETUPS)):
        with server(setup, options.n) as url:
            asyncio.run(load(url, MODEL, 2, 4, 4))  # what is compiled or read at the first request
            answered, missing, seconds = asyncio.run(
                load(url, MODEL, options.clients, options.requests, options.tokens)
            )
        rates[setup].append(len(answered) / seconds)
        medians[setup].append(float(np.median([one.seconds for one in answered])))
        lost[setup] += missing
        print(f"{setup.name}: {rates[setup][-1]:.2f} requests/s", file=sys.stderr, flush=True)
    base = np.mean(rates[SETUPS[1]])
    print(f"{MODEL}, n={options.n}, {options.clients} clients, {os.cpu_count()} CPU cores\n")
    print("| server | cores per replica | requests/s, twice | against one replica | whole answer p50 | lost |")
    print("|---|---|---|---|---|---|")
    for setup in SETUPS:
        rate, other = rates[setup]
        print(
            f"| {setup.name} | {setup.cores} | {rate:.2f}, {other:.2f} | {np.mean(rates[setup]) / base:.2f}x "
            f"| {np.mean(medians[setup]):.2f} s | {lost[setup]} |"
        )


if __name__ == "__main__":
    main()
