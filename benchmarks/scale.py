"""How fast best-of-N is on a machine, and how many machines serve so many requests a second, computed and not measured.

A decoding step reads all weights once, whatever the number of rows, then does something for every row:

    step(rows) = overhead + weights / bandwidth + rows * (row + cache of the row / bandwidth)

`MEASURED` has every figure that was measured and that this says something about, and `python benchmarks/scale.py`
prints it beside the computed one; a test holds the two together. What follows for other machines is arithmetic, no
measurement.

    python benchmarks/scale.py --model 7b --machine h200-vllm --n 16 --tokens 512 --requests 2
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A dense model.

    Attributes:
        parameters: Number of weights.
        layers: Number of decoder layers.
        d_ff: Neurons per layer.
        kv_width: Elements of keys, or of values, per layer and token.
        bytes_per_weight: 2 in bfloat16.
    """

    parameters: float
    layers: int
    d_ff: int
    kv_width: int
    bytes_per_weight: int = 2

    @property
    def weight_bytes(self) -> float:
        return self.parameters * self.bytes_per_weight

    @property
    def cache_bytes(self) -> float:
        """Bytes of the cache per token."""
        return 2 * self.layers * self.kv_width * self.bytes_per_weight


@dataclass(frozen=True)
class Machine:
    """A device with an engine.

    Attributes:
        bandwidth: Bytes that it reads a second, as achieved.
        overhead: Seconds of a step that depend on neither weights nor rows: launches, the scheduler.
        row: Seconds that each row adds: products, signals, drawing.
        max_rows: Rows that are advanced together.
    """

    bandwidth: float
    overhead: float
    row: float
    max_rows: int = 128


SHAPES = {
    "135m": Shape(135e6, 30, 1536, 192),
    "0.5b": Shape(0.49e9, 24, 4864, 128),
    "7b": Shape(7.6e9, 28, 18944, 512),
    "32b": Shape(32.8e9, 64, 27648, 1024),
}

MACHINES = {
    # two points of benchmarks/RESULTS.md, "Growth" (12.5 ms a token at 4 rows, 1.5 ms at 256), fix its constants
    "cpu-2-cores": Machine(bandwidth=15e9, overhead=26.7e-3, row=1.325e-3),
    # 4.5 ms for the weights of a 7B model and 17 to 20 ms a step, measured on an H200
    "h200-transformers": Machine(bandwidth=3.38e12, overhead=14e-3, row=10e-6),
    # two points of benchmarks/vllm.md fix its constants (97 ms at 4 rows, 565 ms at 64); in float32, drawn from top-p
    "cpu-1-core-vllm": Machine(bandwidth=15e9, overhead=47.8e-3, row=7.8e-3, max_rows=64),
    # the same bandwidth; overhead and row are assumed, as no GPU with vLLM was at hand
    "h200-vllm": Machine(bandwidth=3.38e12, overhead=1e-3, row=15e-6, max_rows=256),
}


def step_seconds(shape: Shape, machine: Machine, rows: float, context: float = 0) -> float:
    """Seconds of one step; `context` is the mean number of tokens in the cache of a row."""
    per_row = machine.row + context * shape.cache_bytes / machine.bandwidth
    return machine.overhead + shape.weight_bytes / machine.bandwidth + rows * per_row


def rows_by_chunk(n: int, tokens: int, pruning: str, chunk: int = 32) -> list[int]:
    """Rows of one request in each chunk."""
    chunks = -(-tokens // chunk)
    if pruning == "first_chunk":
        return [n] + [1] * (chunks - 1)
    if pruning == "halving":
        return [max(1, -(-n // 2**i)) for i in range(chunks)]
    return [n] * chunks


def token_share(n: int, tokens: int, pruning: str) -> float:
    """Tokens that are generated, as a share of those without pruning."""
    return sum(rows_by_chunk(n, tokens, pruning)) / sum(rows_by_chunk(n, tokens, "never"))


def request_seconds(shape: Shape, machine: Machine, n: int, tokens: int, pruning: str, prompt: int = 0) -> float:
    """Seconds of decoding one request that has the machine for itself."""
    return sum(
        min(32, tokens - 32 * i) * step_seconds(shape, machine, rows, prompt + 32 * i)
        for i, rows in enumerate(rows_by_chunk(n, tokens, pruning))
    )


def queue_seconds(shape: Shape, machine: Machine, n: int, tokens: int, pruning: str, waiting: int) -> float:
    """Seconds until so many requests that wait have been decoded, each let in at the end of a chunk if it fits."""
    running: list[list[int]] = []
    seconds = 0.0
    while waiting or running:
        while waiting and sum(request[0] for request in running) + n <= max(machine.max_rows, n):
            running.append(rows_by_chunk(n, tokens, pruning))
            waiting -= 1
        seconds += 32 * step_seconds(shape, machine, sum(request[0] for request in running))
        running = [request[1:] for request in running if len(request) > 1]
    return seconds


def requests_a_second(shape: Shape, machine: Machine, n: int, tokens: int, pruning: str, prompt: int) -> float:
    """Requests that one machine serves a second when it always has `max_rows` rows."""
    row_steps = 32 * sum(rows_by_chunk(n, tokens, pruning))
    step = step_seconds(shape, machine, machine.max_rows, prompt + tokens / 2)
    return machine.max_rows / step / row_steps


@dataclass(frozen=True)
class RecorderBytes:
    """What recording moves and keeps.

    Attributes:
        buffer: Persistent bytes in vLLM's worker.
        copied: Bytes that each step copies for each row.
        leaving: Bytes of each token that leave the worker.
    """

    buffer: int
    copied: int
    leaving: int


def recorder_bytes(shape: Shape, machine: Machine, top_k: int = 500) -> RecorderBytes:
    per_row = shape.layers * shape.d_ff * shape.bytes_per_weight
    # neuron ids of 4 bytes, and three signals
    return RecorderBytes(machine.max_rows * per_row, per_row, 4 * top_k + 12)


@dataclass(frozen=True)
class Measured:
    """A figure that was measured, and how it is computed.

    Attributes:
        what: What was measured, and where it stands.
        value: The figure.
        computed: Computes it.
        within: Greatest factor between the two.
    """

    what: str
    value: float
    computed: Callable[[], float]
    within: float = 1.15


def _cpu(n: int, tokens: int, pruning: str) -> float:
    return request_seconds(SHAPES["135m"], MACHINES["cpu-2-cores"], n, tokens, pruning)


def _h200_queue(pruning: str) -> float:
    return queue_seconds(SHAPES["7b"], MACHINES["h200-transformers"], 16, 128, pruning, 32)


MEASURED = [
    Measured(
        "seconds a token at 4 rows, 135M on 2 cores (RESULTS.md, Growth)",
        12.5e-3,
        lambda: step_seconds(SHAPES["135m"], MACHINES["cpu-2-cores"], 4) / 4,
    ),
    Measured(
        "the same at 256 rows",
        1.5e-3,
        lambda: step_seconds(SHAPES["135m"], MACHINES["cpu-2-cores"], 256) / 256,
    ),
    Measured(
        "the same at 64 rows (RESULTS.md)",
        2.0e-3,
        lambda: step_seconds(SHAPES["135m"], MACHINES["cpu-2-cores"], 64) / 64,
    ),
    Measured("a step of one row (RESULTS.md)", 45e-3, lambda: step_seconds(SHAPES["135m"], MACHINES["cpu-2-cores"], 1)),
    Measured(
        "best-of-64 of 256 tokens, first chunk, against all (RESULTS.md)",
        0.42,
        lambda: _cpu(64, 256, "first_chunk") / _cpu(64, 256, "never"),
    ),
    Measured(
        "the same, halved at chunk ends (RESULTS.md)",
        0.48,
        lambda: _cpu(64, 256, "halving") / _cpu(64, 256, "never"),
    ),
    Measured("its share of the tokens, first chunk (RESULTS.md)", 0.14, lambda: token_share(64, 256, "first_chunk")),
    Measured("its share of the tokens, halved (RESULTS.md)", 0.25, lambda: token_share(64, 256, "halving")),
    Measured(
        "a step of 34 rows in vLLM on one core (vllm.md)",
        0.319,
        lambda: step_seconds(SHAPES["135m"], MACHINES["cpu-1-core-vllm"], 34),
    ),
    Measured(
        "the same at 20 rows (vllm.md)",
        0.222,
        lambda: step_seconds(SHAPES["135m"], MACHINES["cpu-1-core-vllm"], 20),
    ),
    Measured(
        "weights of a 7B model read once on an H200",
        4.5e-3,
        lambda: SHAPES["7b"].weight_bytes / MACHINES["h200-transformers"].bandwidth,
    ),
    Measured(
        "a step of that model in transformers, 1 to 64 rows (17 to 20 ms)",
        18.5e-3,
        lambda: step_seconds(SHAPES["7b"], MACHINES["h200-transformers"], 16),
    ),
    Measured(
        "share of the tokens, best-of-16 of 128 tokens, first chunk (H200)",
        0.30,
        lambda: token_share(16, 128, "first_chunk"),
    ),
    # what the computation leaves out is the same in both, or more with pruning: prompts, recording, comparing
    Measured(
        "32 such requests that wait, first chunk against never (H200)",
        0.66,
        lambda: _h200_queue("first_chunk") / _h200_queue("never"),
        within=1.4,
    ),
    Measured(
        "bytes in memory for 1,000 tokens of 500 neurons (RESULTS.md)",
        2e6,
        lambda: 1000 * recorder_bytes(SHAPES["135m"], MACHINES["cpu-2-cores"]).leaving,
    ),
]


def _print_checks() -> None:
    print("| what was measured | measured | computed | factor |\n|---|---|---|---|")
    for one in MEASURED:
        computed = one.computed()
        print(f"| {one.what} | {one.value:.4g} | {computed:.4g} | {computed / one.value:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SHAPES, default="7b")
    parser.add_argument("--machine", choices=MACHINES, default="h200-vllm")
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--requests", type=float, default=1.0, help="requests a second to be served")
    args = parser.parse_args()
    shape, machine = SHAPES[args.model], MACHINES[args.machine]
    _print_checks()
    print(f"\n{args.model} on {args.machine}, best-of-{args.n}, {args.tokens} tokens, a prompt of {args.prompt}:\n")
    print("| pruning | alone: s | tokens a second | full: requests a second | machines for the load |")
    print("|---|---|---|---|---|")
    for pruning in ("never", "halving", "first_chunk"):
        alone = request_seconds(shape, machine, args.n, args.tokens, pruning, args.prompt)
        tokens = 32 * sum(rows_by_chunk(args.n, args.tokens, pruning))
        rate = requests_a_second(shape, machine, args.n, args.tokens, pruning, args.prompt)
        print(f"| {pruning} | {alone:.2f} | {tokens / alone:,.0f} | {rate:.2f} | {math.ceil(args.requests / rate)} |")
    found = recorder_bytes(shape, machine)
    print(f"\nRecording: a buffer of {found.buffer / 2**20:.0f} MiB in the worker; each step copies")
    print(f"{found.copied / 1e6:.2f} MB per row ({found.copied / machine.bandwidth * 1e6:.2f} us);")
    print(f"{found.leaving:,} bytes per token leave the worker.")


if __name__ == "__main__":
    main()
