"""The rows of the first table: what is timed, against what, and the target.

To add a row, add it to the function of its group, or write a function that returns rows and name it in `table_rows`.
"""

from __future__ import annotations

import copy
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import CompileConfig

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.captured_step import captured_ratio
from benchmarks.gpu.cells import milliseconds
from nad_agents.engine.base import GenerationRequest
from nad_agents.models import load_model
from nad_agents.neurons.recording_config import RecordingConfig

LAST = "static"
"""The row that is measured after everything else, as compiling takes a minute."""
ROW_SECONDS = 8
"""Time of a row that does not say what it takes."""
ACTIVATION, ATTRIBUTION = RecordingConfig(), RecordingConfig("attribution")


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        what: What is measured.
        against: What it is held against.
        measure: Measures it.
        target: The target.
        least: Seconds that it takes on a GPU at least; it is left out if there are fewer.
    """

    what: str
    against: str
    measure: Callable[[], str]
    target: str
    least: float = 5


def table_rows(bench: Bench) -> dict[str, Row]:
    """Return all rows by their names on the command line, in the order of the table."""
    return {
        # first what says most about this machine, if it is taken away early
        **captured_rows(bench),
        **recorder_rows(bench),
        **generate_rows(bench),
        **step_rows(bench),
        **waiting_rows(bench),
        **loading_rows(bench),
        **compiled_rows(bench),
    }


def recorder_rows(bench: Bench) -> dict[str, Row]:
    """Decoding with the recorder, against decoding without it."""
    rows: dict[str, Row] = {}
    for name, recording, target in (("activation", ACTIVATION, "1.05"), ("attribution", ATTRIBUTION, "1.10")):
        for n in bench.shape.rows:

            def measure(n: int = n, recording: RecordingConfig = recording) -> str:
                return bench.ratio(lambda: bench.candidates(n, recording), lambda: bench.candidates(n, None))

            rows[f"{name}-{n}"] = Row(f"{n} candidates, recorder on, {name}", "recorder off", measure, target)
    return rows


def generate_rows(bench: Bench) -> dict[str, Row]:
    """Decoding, against what transformers takes for the same tokens."""
    shape = bench.shape
    few, many = shape.rows
    return {
        "long": Row(
            f"best-of-{few}, prompt of {shape.prompt} tokens, recording",
            "generate",
            lambda: bench.ratio(
                lambda: bench.candidates(few, ACTIVATION, prompt=shape.prompt),
                lambda: bench.generate(few, shape.prompt),
            ),
            "0.8",
        ),
        "loop": Row(
            f"the loop without recording, {many} candidates",
            "the bare forward",
            lambda: bench.ratio(lambda: bench.candidates(many, None), lambda: bench.forwards(many, shape.tokens)),
            "1.05",
        ),
        "one": Row(
            "one candidate, prompt of 16 tokens, not recorded",
            "generate",
            lambda: bench.ratio(lambda: bench.candidates(1, None), lambda: bench.generate(1, 16)),
            "1.00",
        ),
    }


def step_rows(bench: Bench) -> dict[str, Row]:
    """One step of decoding, in milliseconds."""
    return {
        f"step-{n}": Row(
            f"a step of {n} candidates",
            f"weights read once ({milliseconds(weights_seconds(bench))})",
            lambda n=n: milliseconds(step_seconds(bench, n)),
            "7 ms (7b)",
        )
        for n in (1, *bench.shape.rows)
    }


def captured_rows(bench: Bench) -> dict[str, Row]:
    """A step that is a CUDA graph, against the model's own."""
    return {
        f"captured-{n}": Row(
            f"a captured step of {n} candidates, recording",
            "the model's own step",
            lambda n=n: captured_ratio(bench, n),
            "0.5",
        )
        for n in (1, *bench.shape.rows)
    }


def waiting_rows(bench: Bench) -> dict[str, Row]:
    """Many requests that wait at the same time."""
    shape = bench.shape
    tokens, pruned = 2 * shape.tokens, max(2, shape.rows[0])
    shares: list[float] = []

    def first_chunk() -> None:
        drawn = bench.many(pruned, tokens, shape.waiting, pruning="first_chunk", max_rows=128)
        shares.append(drawn / (shape.waiting * pruned * tokens))

    def early() -> str:
        found = bench.ratio(first_chunk, lambda: bench.many(pruned, tokens, shape.waiting, max_rows=128))
        return f"{found} for {shares[-1]:.2f} of the tokens"

    rows = {
        "early": Row(
            f"{shape.waiting} waiting requests of best-of-{pruned}, {tokens} tokens, first_chunk",
            "never",
            early,
            "0.40",
            40,
        )
    }
    if shape.wide:
        rows["wide"] = Row(
            f"{shape.waiting} prompts x {shape.wide} candidates together",
            "",
            lambda: tokens_a_second(bench, shape.wide, shape.waiting * shape.wide),
            "20,000 tokens/s (0.5b)",
            20,
        )
    return rows


def loading_rows(bench: Bench) -> dict[str, Row]:
    """Loading a model."""
    if not bench.shape.gguf:
        return {}
    what = "loading a GGUF file the first time, and again"
    return {"gguf": Row(what, "", lambda: gguf_seconds(bench), "20 s (0.5b)", 45)}


def compiled_rows(bench: Bench) -> dict[str, Row]:
    """Steps that are compiled."""
    what = "one candidate, generate with a static cache, compiled by transformers"
    return {LAST: Row(what, "generate", lambda: static_ratio(bench), "0.5", 75)}


def step_seconds(bench: Bench, n: int, steps: int = 20) -> float:
    generation = bench.engine.start(GenerationRequest(bench.prompt(16), bench.sampling(n, 3 + 2 * steps)))
    bench.engine.step(3)
    found = [bench.seconds(lambda: bench.engine.step(steps)) / steps for _ in range(2)]
    bench.engine.release(generation)
    return min(found)


def weights_seconds(bench: Bench) -> float:
    """Time in which the device reads as many bytes as the weights have, by how fast it copies."""
    source = torch.empty(2**28 if bench.device.type == "cuda" else 2**24, dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    copied = min(bench.seconds(lambda: target.copy_(source)) for _ in range(10))
    size = sum(parameter.nbytes for parameter in bench.model.parameters())
    return size * copied / (2 * source.nbytes)


def tokens_a_second(bench: Bench, n: int, rows: int) -> str:
    seconds = bench.seconds(lambda: bench.many(n, bench.shape.tokens, bench.shape.waiting, max_rows=rows))
    return f"{rows * bench.shape.tokens / seconds:,.0f} tokens/s"


def gguf_seconds(bench: Bench) -> str:
    with tempfile.TemporaryDirectory() as folder, environment(NAD_CACHE_DIR=folder):
        path = Path(folder) / "random.gguf"
        config = bench.model.config
        keys = {
            "feed_forward_length": config.intermediate_size,
            "attention__head_count_kv": config.num_key_value_heads,
            "attention__layer_norm_rms_epsilon": config.rms_norm_eps,
        }
        from tests import tiny_gguf  # which needs a package that only GGUF files need

        # a copy, as the graphs of other rows read the weights where they are
        tiny_gguf.write_model(path, copy.deepcopy(bench.model).cpu(), "qwen2", quantization="Q8_0", **keys)
        times = [bench.seconds(lambda: load_model(path, device=str(bench.device))) for _ in range(2)]
    return " and ".join(f"{seconds:.1f} s" for seconds in times)


@contextmanager
def environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def static_ratio(bench: Bench) -> str:
    """Time a step that transformers compiles, which it does on a CPU only if told to."""
    options: dict[str, Any] = {"cache_implementation": "static", "compile_config": CompileConfig()}
    options["compile_config"]._compile_all_devices = True
    bench.generate(1, 16, **options)
    bench.end = max(bench.end, time.perf_counter() + ROW_SECONDS)
    return bench.ratio(lambda: bench.generate(1, 16, **options), lambda: bench.generate(1, 16))
