"""Measure the transformers engine on the device that there is, with random models: no network, no weights.

    python -m benchmarks.gpu [--shape tiny|0.5b|7b|moe] [--device DEVICE] [--rows ROW ...] [--pairs 3] [--families N]
                             [--seconds 240]

Run it from the repository's root. Ratios are medians of pairs that are timed in turn in one process. `--shape tiny`
runs on a CPU in a minute and measures nothing worth knowing, but runs everything that a GPU runs. After the rows it
counts what a step of decoding does, checks the recorded neurons of every model family against the written formulas, and
then prints the row that takes longest.

A row that fails prints its error, and the others follow. Each row takes a share of `--seconds`, and what there is no
time left for says so: name it with `--rows` to run it alone.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig, AutoModelForCausalLM, CompileConfig, DynamicCache, PreTrainedModel

from benchmarks.captured_step import captured_ratio
from nad_agents import NADConfig, NeuronAgreementDecoder, SamplingConfig, testing
from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.models import LoadedModel, load_model, resolve_device, resolve_dtype
from nad_agents.neurons.architectures import decoder_layers
from nad_agents.neurons.recording_config import RecordingConfig
from tests.model_families import FAMILIES, family_model
from tests.step_trace import StepTrace
from tests.tiny_models import byte_tokenizer
from tests.unit.neurons.feed_forward_formulas import assert_is_top, formula_layers

EOS = 0
LAST = "static"
"""The row that is measured after everything else, as compiling takes a minute."""
ROW_SECONDS, COUNT_SECONDS, FAMILY_SECONDS = 8, 15, 45
"""Time of a row that does not say what it takes, of counting what steps do, and of checking the families."""
ACTIVATION, ATTRIBUTION = RecordingConfig(), RecordingConfig("attribution")


@dataclass(frozen=True)
class Shape:
    """A random model and how much is asked of it.

    Attributes:
        architecture: Model type of transformers.
        config: Parameters of its config.
        rows: Rows of the two recorder rows.
        tokens: New tokens of a candidate.
        prompt: Tokens of the long prompt.
        waiting: Requests that wait in the two rows with many requests.
        wide: Candidates of each of many prompts in one batch; 0 leaves the row out.
        gguf: Whether a GGUF file of the model is loaded.
    """

    architecture: str
    config: dict[str, Any]
    rows: tuple[int, ...] = (16, 64)
    tokens: int = 64
    prompt: int = 512
    waiting: int = 32
    wide: int = 0
    gguf: bool = False


_QWEN = {"vocab_size": 151_936, "max_position_embeddings": 32_768, "bos_token_id": None, "eos_token_id": EOS}
SHAPES = {
    "tiny": Shape(
        "qwen2",
        {
            **_QWEN,
            "vocab_size": 2048,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        },
        rows=(2, 4),
        tokens=8,
        prompt=32,
        waiting=3,
        wide=4,
        gguf=True,
    ),
    "0.5b": Shape(
        "qwen2",
        {
            **_QWEN,
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
        },
        wide=64,
        gguf=True,
    ),
    "7b": Shape(
        "qwen2",
        {
            **_QWEN,
            "vocab_size": 152_064,
            "hidden_size": 3584,
            "intermediate_size": 18_944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
        },
    ),
    "moe": Shape(
        "qwen3_moe",
        {
            **_QWEN,
            "hidden_size": 2048,
            "intermediate_size": 6144,
            "moe_intermediate_size": 768,
            "num_hidden_layers": 24,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "num_experts": 128,
            "num_experts_per_tok": 8,
        },
        waiting=16,
    ),
}
"""Qwen2.5-0.5B and 7B, and half of the layers of Qwen3-30B-A3B."""


def random_model(shape: Shape, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    config = AutoConfig.for_model(shape.architecture, **shape.config)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    # at temperature 0.8 and top-k 50 no candidate ends before its limit
    model.get_output_embeddings().weight.data[EOS] = 0
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = EOS
    return model.eval().requires_grad_(False)


@dataclass
class Bench:
    """The runs that are timed, on one model.

    Attributes:
        shape: What is run.
        model: The model.
        pairs: Number of pairs of a ratio, if there is time.
        end: When `time.perf_counter` has this value, a row ends with the pairs that it has.
        engine: The engine.
    """

    shape: Shape
    model: PreTrainedModel
    pairs: int
    end: float = math.inf
    engine: HFEngine = field(init=False)

    def __post_init__(self) -> None:
        self.engine = HFEngine(self.model, byte_tokenizer())
        self.loaded = LoadedModel(self.model, testing.byte_tokenizer(), "random", "folder", Path())

    @property
    def device(self) -> torch.device:
        return self.model.device

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, run: Callable[[], object]) -> float:
        self.wait()
        started = time.perf_counter()
        run()
        self.wait()
        return time.perf_counter() - started

    def prompt(self, length: int) -> list[int]:
        return [1 + i % 200 for i in range(length)]

    def sampling(self, n: int, tokens: int) -> SamplingConfig:
        return SamplingConfig(n=n, max_new_tokens=tokens, temperature=0.8, top_k=50, top_p=0.95, seed=1)

    def candidates(self, n: int, recording: RecordingConfig | None, *, prompt: int = 16) -> None:
        request = GenerationRequest(self.prompt(prompt), self.sampling(n, self.shape.tokens), recording)
        generation = self.engine.start(request)
        while generation.live:
            self.engine.step(32)
        generation.group()
        self.engine.release(generation)

    def generate(self, n: int, prompt: int, **options: Any) -> None:
        ids = torch.tensor([self.prompt(prompt)], device=self.device)
        options |= {"do_sample": True, "temperature": 0.8, "top_k": 50, "top_p": 0.95, "num_return_sequences": n}
        with torch.inference_mode():
            self.model.generate(ids, max_new_tokens=self.shape.tokens, **options)

    @torch.inference_mode()
    def forwards(self, n: int, steps: int, prompt: int = 16) -> None:
        """Run the model alone as often as a loop over the same tokens would."""
        cache = DynamicCache(config=self.model.config)
        ids = torch.tensor([self.prompt(prompt)] * n, device=self.device)
        self.model(ids[:, :-1], past_key_values=cache, logits_to_keep=1)
        for _ in range(steps):
            self.model(ids[:, -1:], past_key_values=cache, logits_to_keep=1)

    def many(self, n: int, tokens: int, prompts: int, *, pruning: str = "never", max_rows: int | str = "auto") -> int:
        """Answer many prompts that wait at the same time, and return the number of tokens that were generated."""
        config = NADConfig(pruning=pruning, selector="knn")
        decoder = NeuronAgreementDecoder(self.loaded, config=config, max_rows=max_rows)
        texts = [f"{i} " * 8 for i in range(prompts)]
        selections = decoder.decode_many(texts, sampling=self.sampling(n, tokens), raw=True)
        decoder.close()
        return sum(candidate.tokens for selection in selections for candidate in selection.candidates)

    def ratio(self, run: Callable[[], object], reference: Callable[[], object]) -> str:
        """Time both in pairs, of which the first warms up; it counts if there is no time for another."""
        pairs: list[tuple[float, float]] = []
        for i in range(self.pairs + 1):
            started = time.perf_counter()
            if i % 2:
                other = self.seconds(reference)
                pairs.append((self.seconds(run), other))
            else:
                mine = self.seconds(run)
                pairs.append((mine, self.seconds(reference)))
            now = time.perf_counter()
            if now + (now - started) > self.end:
                break
        ratios = sorted(mine / other for mine, other in pairs[1:] or pairs)
        return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


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
    shape = bench.shape
    few, many = shape.rows
    rows: dict[str, Row] = {}
    for name, recording, target in (("activation", ACTIVATION, "1.05"), ("attribution", ATTRIBUTION, "1.10")):
        for n in shape.rows:

            def measure(n: int = n, recording: RecordingConfig = recording) -> str:
                return bench.ratio(lambda: bench.candidates(n, recording), lambda: bench.candidates(n, None))

            rows[f"{name}-{n}"] = Row(f"{n} candidates, recorder on, {name}", "recorder off", measure, target)
    rows["long"] = Row(
        f"best-of-{few}, prompt of {shape.prompt} tokens, recording",
        "generate",
        lambda: bench.ratio(
            lambda: bench.candidates(few, ACTIVATION, prompt=shape.prompt), lambda: bench.generate(few, shape.prompt)
        ),
        "0.8",
    )
    rows["loop"] = Row(
        f"the loop without recording, {many} candidates",
        "the bare forward",
        lambda: bench.ratio(lambda: bench.candidates(many, None), lambda: bench.forwards(many, shape.tokens)),
        "1.05",
    )
    rows["one"] = Row(
        "one candidate, prompt of 16 tokens, not recorded",
        "generate",
        lambda: bench.ratio(lambda: bench.candidates(1, None), lambda: bench.generate(1, 16)),
        "1.00",
    )
    for n in (1, few, many):
        rows[f"step-{n}"] = Row(
            f"a step of {n} candidates",
            f"weights read once ({milliseconds(weights_seconds(bench))})",
            lambda n=n: milliseconds(step_seconds(bench, n)),
            "7 ms (7b)",
        )
    for n in (1, few, many):
        rows[f"captured-{n}"] = Row(
            f"a captured step of {n} candidates, recording",
            "the model's own step",
            lambda n=n: captured_ratio(bench, n),
            "0.5",
        )
    tokens, pruned = 2 * shape.tokens, max(2, few)
    shares: list[float] = []

    def first_chunk() -> None:
        drawn = bench.many(pruned, tokens, shape.waiting, pruning="first_chunk", max_rows=128)
        shares.append(drawn / (shape.waiting * pruned * tokens))

    def early() -> str:
        found = bench.ratio(first_chunk, lambda: bench.many(pruned, tokens, shape.waiting, max_rows=128))
        return f"{found} for {shares[-1]:.2f} of the tokens"

    rows["early"] = Row(
        f"{shape.waiting} waiting requests of best-of-{pruned}, {tokens} tokens, first_chunk",
        "never",
        early,
        "0.40",
        40,
    )
    if shape.wide:
        total = shape.waiting * shape.wide
        rows["wide"] = Row(
            f"{shape.waiting} prompts x {shape.wide} candidates together",
            "",
            lambda: tokens_a_second(bench, shape.wide, total),
            "20,000 tokens/s (0.5b)",
            20,
        )
    if shape.gguf:
        rows["gguf"] = Row(
            "loading a GGUF file the first time, and again", "", lambda: gguf_seconds(bench), "20 s (0.5b)", 45
        )
    rows[LAST] = Row(
        "one candidate, generate with a static cache, compiled by transformers",
        "generate",
        lambda: static_ratio(bench),
        "0.5",
        75,
    )
    return rows


def static_ratio(bench: Bench) -> str:
    """Time a step that transformers compiles, which it does on a CPU only if told to."""
    options: dict[str, Any] = {"cache_implementation": "static", "compile_config": CompileConfig()}
    options["compile_config"]._compile_all_devices = True
    bench.generate(1, 16, **options)
    bench.end = max(bench.end, time.perf_counter() + ROW_SECONDS)
    return bench.ratio(lambda: bench.generate(1, 16, **options), lambda: bench.generate(1, 16))


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"


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

        tiny_gguf.write_model(path, bench.model.cpu(), "qwen2", quantization="Q8_0", **keys)
        bench.model.to(bench.device)
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


def step_counts(bench: Bench, generations: int, recording: RecordingConfig | None) -> list[str]:
    """Return what one step of requests of two candidates does, without what a chunk costs once.

    Returns:
        Operations of torch, those of them that copy, and calls for which the host waits, as on a GPU; then the kernels,
        copies and waits that the profiler finds on a GPU.
    """
    engine = HFEngine(bench.model, byte_tokenizer(), steps_per_read=4)
    for i in range(generations):
        engine.start(GenerationRequest([i + 1, 2, 3], bench.sampling(2, 64), recording))
    engine.step(4)
    cells = []
    for count, names in ((in_torch, ("operations", "copies", "waits")), (on_the_gpu, ("kernels", "copies", "waits"))):
        few, many = count(lambda: engine.step(4)), count(lambda: engine.step(12))
        cells += [f"{(many[name] - few[name]) / 8:.2f}" for name in names]
    return cells


def in_torch(run: Callable[[], object]) -> Counter[str]:
    with StepTrace() as trace:
        run()
    waits = trace.synchronisations.total()
    return Counter(operations=trace.operations.total(), copies=trace.copies, waits=waits)


def on_the_gpu(run: Callable[[], object]) -> Counter[str]:
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    on_gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    with profile(activities=[ProfilerActivity.CPU, *on_gpu]) as profiled:
        run()
    found: Counter[str] = Counter()
    for event in profiled.events():
        if event.device_type == DeviceType.CUDA:
            found["copies" if event.name.startswith("Mem") else "kernels"] += 1
        elif event.name in {"cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize"}:
            found["waits"] += 1
    return found


def check_families(device: torch.device, limit: int | None, end: float) -> Iterator[tuple[str, dict[str, str]]]:
    """Decode with a tiny model of each family on the device, and compare with the formulas on the CPU.

    Yields:
        The family, and for each score "exact", what is wrong, or "not run".
    """
    for family in FAMILIES[:limit]:
        scores = ("activation", "attribution") if family.attribution else ("activation",)
        found = dict.fromkeys(scores, "not run: no time left")
        if time.perf_counter() < end:
            try:
                original = family_model(family.name)
                engine = HFEngine(copy.deepcopy(original).to(device), byte_tokenizer())
                for score in scores:
                    found[score] = attempt(lambda e=engine, m=original, s=score: check_family(e, m, s))
            except Exception as error:  # noqa: BLE001 - one family says nothing about the others
                found = dict.fromkeys(scores, failure(error))
        yield family.name, found


def attempt(run: Callable[[], str]) -> str:
    """Return a cell of a table: the result, or the error in its place."""
    try:
        return run()
    except Exception as error:  # noqa: BLE001 - the other rows are still to be measured
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return failure(error)


def failure(error: Exception) -> str:
    text = " ".join(str(error).split()).replace("|", "/")
    return f"FAILED: {type(error).__name__}: {text[:200]}"


def check_family(engine: HFEngine, original: PreTrainedModel, score: str) -> str:
    prompt, recording = byte_tokenizer()("def add(a, b):")["input_ids"], RecordingConfig(score, 20, 12)
    sampling = SamplingConfig(n=2, max_new_tokens=12, temperature=1.0, top_k=0, top_p=1.0, seed=11)
    generation = engine.start(GenerationRequest(prompt, sampling, recording))
    while generation.live:
        engine.step(8)
    engine.release(generation)
    unembedding, layout = original.get_output_embeddings().weight, engine.layout(recording)
    for rollout in generation.group().rollouts:
        ids = prompt + rollout.token_ids.tolist()
        layers = formula_layers(original, decoder_layers(original)[1], ids)
        values = [layer.scores(score, unembedding[[*ids[1:], 0]]) for layer in layers]
        for t, neurons in enumerate(rollout.neurons):
            at = len(prompt) - 1 + t
            scored = [(layer.numbers[at], value[at]) for layer, value in zip(layers, values, strict=True)]
            assert_is_top(neurons, scored, layout.d_ff, 20, 12)
    return "exact"


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
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    print(f"{args.shape}, {str(dtype).removeprefix('torch.')}, {card}, torch {torch.__version__}, {args.pairs} pairs\n")
    failed = print_report(bench, args.rows, args.families, end)
    if failed:
        sys.exit(f"{failed} rows or families failed")


def print_report(bench: Bench, chosen: list[str] | None, limit: int | None, end: float) -> int:
    """Measure the rows, print them as Markdown tables, and return the number of rows and families that failed."""
    rows = table_rows(bench)
    names = list(rows) if chosen is None else chosen
    failed = 0

    def print_rows(those: list[str], until: float) -> None:
        nonlocal failed
        print("| what | against | measured | target |\n|---|---|---|---|")
        for name in those:
            row, now = rows[name], time.perf_counter()
            bench.end = min(now + max(ROW_SECONDS, row.least), until)
            left = until - now
            cell = attempt(row.measure) if left >= row.least or chosen else f"not run: {left:.0f} s left"
            failed += cell.startswith("FAILED")
            print(f"| {row.what} | {row.against} | {cell} | {row.target} |", flush=True)

    # 1. what is measured
    print_rows([name for name in names if name != LAST], end - (0 if chosen else COUNT_SECONDS + FAMILY_SECONDS))
    # 2. what a step does
    print(
        "\n| a step of | operations of torch | copies | waits | kernels | copies | waits |\n"
        "|---|---|---|---|---|---|---|"
    )
    for generations in (1, 8):
        for recording in (None, ACTIVATION):
            cells = attempt(lambda g=generations, r=recording: " | ".join(step_counts(bench, g, r)))
            failed += cells.startswith("FAILED")
            what = f"{generations} request{'s' * (generations > 1)} of 2 candidates"
            print(f"| {what}{', recording' if recording else ''} | {cells} |", flush=True)
    # 3. whether it is exact
    print("\n| model family | activation | attribution |\n|---|---|---|")
    for family, found in check_families(bench.device, limit, min(end, time.perf_counter() + FAMILY_SECONDS)):
        failed += any(cell.startswith("FAILED") for cell in found.values())
        print(f"| {family} | {found['activation']} | {found.get('attribution', '')} |", flush=True)
    # 4. what takes longest
    if LAST in names:
        print()
        print_rows([LAST], end)
    return failed


if __name__ == "__main__":
    main()
