"""Measure the transformers engine on the device that there is, with random models: no network, no weights.

    python -m benchmarks.gpu [--shape tiny|0.5b|7b|moe] [--device DEVICE] [--rows ROW ...] [--pairs 3] [--families N]
                             [--seconds 220]

Run it from the repository's root. Ratios are medians of pairs that are timed in turn in one process. `--shape tiny`
runs on a CPU in a minute and measures nothing worth knowing, but runs everything that a GPU runs. After the rows it
counts what a step of decoding does, checks the recorded neurons of every model family against the written formulas, and
then prints the row that takes longest.

A row that fails prints its error, and the others follow. Each row takes a share of `--seconds`, and what there is no
time left for says so: name it with `--rows` to run it alone. Rows are printed as they are measured, so that a run that
is cut off leaves those before it; `| tee gpu.txt` keeps them in a file. Whether captured steps are right on the machine
is a matter of `pytest tests/cuda`.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.report import print_report
from benchmarks.gpu.rows import table_rows
from benchmarks.gpu.shapes import SHAPES, random_model
from nad_agents.models import resolve_device, resolve_dtype


def main() -> None:
    """Print every row as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="0.5b")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rows", nargs="*", metavar="ROW", help="rows of the first table; default: all")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--families", type=int, help="families that are checked; default: all")
    parser.add_argument("--seconds", type=float, default=220, help="time for everything, imports aside")
    args = parser.parse_args()
    end = time.perf_counter() + args.seconds
    device = resolve_device(args.device)
    dtype = resolve_dtype("auto", device)
    bench = Bench(SHAPES[args.shape], random_model(SHAPES[args.shape], device, dtype), args.pairs)
    known = list(table_rows(bench))
    if unknown := [name for name in args.rows or () if name not in known]:
        parser.error(f"argument --rows: --shape {args.shape} has no {', '.join(unknown)}, but: {', '.join(known)}")
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    kind = str(dtype).removeprefix("torch.")
    print(f"{args.shape}, {kind}, {card}, torch {torch.__version__}, {args.pairs} pairs\n", flush=True)
    failed = print_report(bench, args.rows, args.families, end)
    if failed:
        sys.exit(f"{failed} rows or families failed")


if __name__ == "__main__":
    main()
