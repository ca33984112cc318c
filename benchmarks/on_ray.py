"""Measure replicas on Ray against one process: requests a second of best-of-N, and lost requests.

    python benchmarks/on_ray.py
    python benchmarks/on_ray.py --reverse

Servers are started and asked one after the other, and in the opposite order the second time, so that a machine that
warms up or slows down favors none of them. Each replica has as many threads as cores. On a machine that does other
things as well, the processor time of a request says what its cores allow, since the clock does not.
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
import psutil
from server_load import load

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"


@dataclass(frozen=True)
class Setup:
    replicas: int
    cores: int
    on_ray: bool = True


SETUPS = {
    "serve": Setup(1, 1, on_ray=False),
    "one-replica": Setup(1, 1),
    "one-replica-of-two-cores": Setup(1, 2),
    "two-replicas": Setup(2, 1),
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def server(setup: Setup, n: int) -> Iterator[tuple[str, list[psutil.Process]]]:
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
            here = psutil.Process(process.pid)
            yield found[1], [one for one in here.children(recursive=True) if is_replica(one)] or [here]
        finally:
            process.terminate()
            process.wait()


def is_replica(process: psutil.Process) -> bool:
    try:
        return "".join(process.cmdline()[:1]).startswith("ray::ServeReplica")
    except psutil.NoSuchProcess:
        return False  # one of Ray's short-lived processes has just ended


def processor_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(one.cpu_times()[:2]) for one in processes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--servers", nargs="+", choices=SETUPS, default=list(SETUPS))
    parser.add_argument("--reverse", action="store_true", help="the servers in the opposite order")
    options = parser.parse_args()
    print(f"{MODEL}, n={options.n}, {options.clients} clients, {os.cpu_count()} CPU cores\n")
    print("| server | requests/s | processor seconds per request | requests/s that its cores allow | p50 | lost |")
    print("|---|---|---|---|---|---|")
    for name in reversed(options.servers) if options.reverse else options.servers:
        setup = SETUPS[name]
        with server(setup, options.n) as (url, replicas):
            asyncio.run(load(url, MODEL, 4, 4, 4))  # what is compiled or read at the first request
            before = processor_seconds(replicas)
            answered, lost, seconds = asyncio.run(load(url, MODEL, options.clients, options.requests, options.tokens))
            each = (processor_seconds(replicas) - before) / len(answered)
        if setup.on_ray and len(replicas) != setup.replicas:
            sys.exit(f"{name} has {len(replicas)} replicas, not {setup.replicas}")
        print(
            f"| {name} | {len(answered) / seconds:.2f} | {each:.2f} | {setup.replicas * setup.cores / each:.2f} "
            f"| {np.median([one.seconds for one in answered]):.2f} s | {lost} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
