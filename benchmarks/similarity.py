"""Measure how fast the N x N Jaccard matrix is; prints a Markdown table.

The sets have 20,000 of 350,000 neurons and are of three kinds: `random` ones share almost nothing; `heavy-tailed` ones
draw from all neurons with very unequal probabilities; `one prompt` ones draw from 60,000 neurons, a core of which is
almost always active, as candidates for one prompt do. Repeats are paired: every method runs once per round, so that a
busy moment of the machine affects all of them, and ratios are medians over the rounds.

    OMP_NUM_THREADS=1 python benchmarks/similarity.py            # about a minute, pyroaring optional
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from statistics import median

import numpy as np

from nad_agents.neurons.similarity import jaccard_matrix

try:
    import pyroaring
except ImportError:  # the comparison is left out
    pyroaring = None

NEURONS, SIZE = 350_000, 20_000


def random_sets(n, rng):
    return [np.sort(rng.choice(NEURONS, SIZE, replace=False)).astype(np.int32) for _ in range(n)]


def weighted_sets(n, rng, log_weights, ids):
    """Draw without replacement by taking the largest values of log weight + Gumbel noise."""
    sets = []
    for _ in range(n):
        keys = log_weights + rng.gumbel(size=len(ids))
        sets.append(np.sort(ids[np.argpartition(-keys, SIZE)[:SIZE]]).astype(np.int32))
    return sets


def heavy_tailed(n, rng):
    return weighted_sets(n, rng, -0.9 * np.log(rng.permutation(NEURONS) + 1.0), np.arange(NEURONS))


def one_prompt(n, rng):
    ids = rng.choice(NEURONS, 60_000, replace=False)
    return weighted_sets(n, rng, np.log(rng.gamma(0.25, size=len(ids)) + 1e-30), ids)


KINDS = {"random": random_sets, "heavy-tailed": heavy_tailed, "one prompt": one_prompt}


def with_intersect1d(sets):
    n = len(sets)
    matrix = np.eye(n)
    for i in range(n):
        for j in range(i + 1, n):
            shared = len(np.intersect1d(sets[i], sets[j], assume_unique=True))
            matrix[i, j] = matrix[j, i] = shared / (len(sets[i]) + len(sets[j]) - shared)
    return matrix


def with_pyroaring(sets):
    """Compute the matrix with pyroaring, including the building of bitmaps, as packing bits is included in ours."""
    maps = [pyroaring.BitMap(s) for s in sets]
    n = len(maps)
    matrix = np.eye(n)
    for i in range(n):
        for j in range(i + 1, n):
            matrix[i, j] = matrix[j, i] = maps[i].jaccard_index(maps[j])
    return matrix


def with_pyroaring_ready(sets):
    maps = [pyroaring.BitMap(s) for s in sets]
    n = len(maps)

    def run():
        return [maps[i].jaccard_index(maps[j]) for i in range(n) for j in range(i + 1, n)]

    return run


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def row(kind, n, name, times, ours):
    ratio = median(t / o for t, o in zip(times, ours, strict=True))
    low, high = min(times), max(times)
    print(f"| {kind} | {n} | {name} | {median(times) * 1e3:.1f} | {low * 1e3:.1f} to {high * 1e3:.1f} | {ratio:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="paired repeats at N = 64 (default: 7)")
    parser.add_argument("--large-rounds", type=int, default=3, help="repeats at N = 1024 (default: 3)")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"Python {platform.python_version()}, numpy {np.__version__}, {threads} BLAS threads, {platform.machine()}\n")
    print("| sets | N | method | median ms | range ms | times ours |\n|---|---|---|---|---|---|")
    for kind, make in KINDS.items():
        sets = make(64, rng)
        methods = {
            "ours": lambda sets=sets: jaccard_matrix(sets, NEURONS),
            "numpy intersect1d": lambda sets=sets: with_intersect1d(sets),
        }
        if pyroaring is not None:
            methods["pyroaring"] = lambda sets=sets: with_pyroaring(sets)
            methods["pyroaring, bitmaps at hand"] = with_pyroaring_ready(sets)
            np.testing.assert_allclose(methods["pyroaring"](), jaccard_matrix(sets, NEURONS), atol=1e-12)
        np.testing.assert_allclose(methods["numpy intersect1d"](), methods["ours"](), atol=1e-12)
        times = {name: [] for name in methods}
        for _ in range(options.rounds):
            for name, run in methods.items():
                times[name].append(seconds(run))
        for name, values in times.items():
            row(kind, 64, name, values, times["ours"])
    for kind, make in KINDS.items():
        sets = make(1024, rng)
        ours = [seconds(lambda sets=sets: jaccard_matrix(sets, NEURONS)) for _ in range(options.large_rounds)]
        row(kind, 1024, "ours", ours, ours)


if __name__ == "__main__":
    main()
