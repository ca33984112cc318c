"""Measure how the cost of a token grows with the candidates, their length and the prompt's: a table and a plot.

    python benchmarks/growth.py [--model MODEL] [--dtype DTYPE] [--picture growth.png]
        [--processor-time] [--measured growth.json]

The cost is the time of the whole run, prompt and recording included, divided by the generated tokens. With a file of
measured points, only the others are timed, and all are in the table and in the plot.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from decoding import TimedModel

from nad_agents.models import DEFAULT_MODEL, load_model
from nad_agents.neurons.recording_config import RecordingConfig

SERIES = {
    "candidates (64 tokens each)": ("n", [(n, 64, 0) for n in (4, 8, 16, 32, 64, 128, 256)]),
    "tokens of a candidate (8 candidates)": ("tokens", [(8, 2**i, 0) for i in range(5, 12)]),
    "tokens of the prompt (8 candidates, 64 tokens each)": ("length", [(8, 64, 2**i) for i in range(6, 13)]),
}
"""What grows, and (candidates, tokens, prompt tokens) of each point; 0 prompt tokens leave the question as it is."""


def main() -> None:
    """Time every point once after a warm-up, and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--processor-time", action="store_true", help="for busy machines, with one thread")
    parser.add_argument("--measured", type=Path, help="points of earlier runs; each new point is added")
    args = parser.parse_args()
    measured = json.loads(args.measured.read_text()) if args.measured and args.measured.exists() else {}
    loaded = load_model(args.model, dtype=args.dtype)
    timed = TimedModel(loaded, clock=time.process_time if args.processor_time else time.perf_counter)
    dtype = str(loaded.dtype).removeprefix("torch.")
    print(f"{loaded.name}, {dtype}, {loaded.device}, {torch.get_num_threads()} threads\n")
    timed.engine_seconds(timed.prompt_ids(), 4, 16, RecordingConfig())
    figure, axes = plt.subplots(1, len(SERIES), figsize=(13, 3.8), sharey=True, layout="constrained")
    print("| N | tokens | prompt | ms per token | per step |\n|---|---|---|---|---|")
    for axis, (label, (what, points)) in zip(axes, SERIES.items(), strict=True):
        costs, places = [], []
        for n, tokens, length in points:
            prompt = timed.prompt_ids(length=length)
            point = f"{n} x {tokens} after {len(prompt)}"
            seconds = measured.get(point) or timed.engine_seconds(prompt, n, tokens, RecordingConfig())
            measured[point] = seconds
            if args.measured:
                args.measured.write_text(json.dumps(measured, indent=1))
            costs.append(1000 * seconds / (n * tokens))
            places.append({"n": n, "tokens": tokens, "length": length}[what])
            step = 1000 * seconds / tokens
            print(f"| {n} | {tokens} | {len(prompt)} | {costs[-1]:.2f} | {step:.1f} |", flush=True)
        axis.plot(places, costs, marker="o", color="#0072B2")
        axis.set(xscale="log", xlabel=label)
        axis.set_xticks(places, [f"{place:,}" for place in places], rotation=45)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f"ms {'of processor time ' * args.processor_time}per generated token")
    # set last, because the axes share their limits
    axes[0].set_ylim(bottom=0)
    figure.suptitle(f"{loaded.name}, {dtype}, {torch.get_num_threads()} threads")
    if args.picture:
        figure.savefig(args.picture, dpi=110)


if __name__ == "__main__":
    main()
