"""Measure what the recorder adds to peak memory: each way of decoding runs in a process of its own.

Loading takes more memory than generating, so the kernel's record of the peak is reset after loading (Linux only).

    python benchmarks/memory.py [--model MODEL] [--dtype DTYPE] [--n 16] [--tokens 256] [--repeats 3]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path
from typing import get_args

from decoding import TimedModel

from nad_agents.models import DEFAULT_MODEL, load_model
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.types import ScoreName

WAYS = ("generate", "recorder off", *get_args(ScoreName))


def peak(args: argparse.Namespace) -> int:
    """Return the peak of this process's resident memory during one way of decoding, in bytes."""
    timed = TimedModel(load_model(args.model, dtype=args.dtype))
    prompt = timed.prompt_ids()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    if args.way == "generate":
        timed.generate_seconds(prompt, args.n, args.tokens)
    else:
        recording = None if args.way == "recorder off" else RecordingConfig(args.way)
        timed.engine_seconds(prompt, args.n, args.tokens, recording)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def main() -> None:
    """Run every way in turn and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        print(peak(args))
        return
    found: dict[str, list[int]] = {way: [] for way in WAYS}
    for _ in range(args.repeats):
        for way, peaks in found.items():
            command = [sys.executable, *sys.argv, "--way", way]
            peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]))
    print(f"{args.model}, {args.dtype}, {args.n} candidates of {args.tokens} tokens, {args.repeats} processes each\n")
    print("| way | peak MiB | of generate's |\n|---|---|---|")
    for way, peaks in found.items():
        ratio = statistics.median(mine / other for mine, other in zip(peaks, found["generate"], strict=True))
        print(f"| {way} | {statistics.median(peaks) / 2**20:.0f} | {ratio:.3f} |")


if __name__ == "__main__":
    main()
