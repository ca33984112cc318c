"""What recording costs, and what the engine saves: ratios of things timed in turn in one process.

    python benchmarks/decoding.py [--model MODEL] [--dtype DTYPE] [--rows ROW ...] [--repeats 5]

Every row times the named way and its reference alternately and gives the median and the range of the paired ratios of
their times. Where all rows decode the same number of tokens, no candidate may end early.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch

from nad_agents import NADConfig, NeuronAgreementDecoder, SamplingConfig
from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.evaluation.datasets import Problem
from nad_agents.evaluation.recording import make_manifest
from nad_agents.models import DEFAULT_MODEL, LoadedModel, load_model
from nad_agents.neurons.recorder import RecordingConfig
from nad_agents.rollouts import RolloutGroup
from nad_agents.runs import ProblemRecord, RunWriter

PROMPT = "Write a Python function that merges two sorted lists into one sorted list, and explain how it works."
MIXED = (
    "What is the capital of France?",
    "Write a Python function that says whether a word is a palindrome.",
    "Name three colours.",
    PROMPT,
    "Is 91 a prime number? Answer with one word.",
    "Explain in one paragraph how a rainbow forms.",
)
"""Questions with answers of very different length."""


class Ways:
    """What is timed, on one model; each method returns seconds."""

    def __init__(self, loaded: LoadedModel, source: str = DEFAULT_MODEL) -> None:
        self.loaded = loaded
        self.source = source
        self.engine = HFEngine(loaded.model, loaded.tokenizer, name=loaded.name)
        self.decoder = NeuronAgreementDecoder(loaded)
        self.written: list[str] = []

    @cached_property
    def in_int8(self) -> Ways:
        """The same model with eight-bit weights."""
        return Ways(load_model(self.source, dtype="int8"), self.source)

    def ids(self, question: str = PROMPT, length: int = 0) -> list[int]:
        """A question's tokens; repeated up to a length."""
        message = [{"role": "user", "content": question}]
        text = self.loaded.tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
        ids = self.loaded.tokenizer(text)["input_ids"]
        return (ids * (length // len(ids) + 1))[:length] if length else ids

    def run(
        self, prompt: list[int], n: int, tokens: int, recording: RecordingConfig | None, *, full: bool = True
    ) -> tuple[float, RolloutGroup]:
        """The engine; `full`: no candidate ends early."""
        sampling = SamplingConfig(
            n=n,
            max_new_tokens=tokens,
            temperature=0.8 if n > 1 else 0.0,
            seed=1,
            generation={"min_new_tokens": tokens} if full else {},
        )
        started = time.perf_counter()
        generation = self.engine.start(GenerationRequest(prompt, sampling, recording))
        while generation.live:
            self.engine.step(32)
        group = generation.group()
        seconds = time.perf_counter() - started
        self.engine.release(generation)
        return seconds, group

    def ours(self, prompt: list[int], n: int, tokens: int, recording: RecordingConfig | None) -> float:
        """Seconds of the engine."""
        return self.run(prompt, n, tokens, recording)[0]

    def generate(self, prompt: list[int], n: int, tokens: int, *, full: bool = True) -> float:
        """The library's own way."""
        sampled = {"do_sample": True, "temperature": 0.8, "top_k": 50, "top_p": 0.95, "num_return_sequences": n}
        options = sampled if n > 1 else {"do_sample": False}
        started = time.perf_counter()
        with torch.inference_mode():
            self.engine.model.generate(
                torch.tensor([prompt], device=self.engine.model.device),
                min_new_tokens=tokens if full else None,
                max_new_tokens=tokens,
                **options,
            )
        return time.perf_counter() - started

    def next_turn(self, prompt: list[int], n: int, tokens: int, known: int) -> float:
        """The engine on a prompt whose first `known` tokens were read for an earlier one."""
        self.engine = HFEngine(self.loaded.model, self.loaded.tokenizer, prefix_bytes=2**30)
        if known:
            self.ours(prompt[:known], 1, 1, None)
        return self.ours(prompt, n, tokens, RecordingConfig())

    def stopped_early(self, pruning: str) -> float:
        """Best-of-64 of 256 tokens through the decoder, selection included."""
        sampling = SamplingConfig(n=64, max_new_tokens=256, temperature=0.8, seed=1, generation={"min_new_tokens": 256})
        started = time.perf_counter()
        self.decoder.decode(PROMPT, sampling=sampling, config=NADConfig(pruning=pruning))
        return time.perf_counter() - started

    def recorded(self, prompt: list[int], n: int, tokens: int, *, written: bool) -> float:
        """The engine, and what it recorded written to disk, durably, or not."""
        seconds, group = self.run(prompt, n, tokens, RecordingConfig())
        if not written:
            return seconds
        record = ProblemRecord("1", group, task={}, prompt=PROMPT, seed=1, seconds={}, versions={})
        sampling, config = SamplingConfig(n=n, max_new_tokens=tokens, seed=1), NADConfig()
        with tempfile.TemporaryDirectory() as folder:
            problem = Problem("1", "answer", PROMPT, PROMPT, answer="-")
            manifest = make_manifest([problem], {}, self.loaded, sampling, config, order_seed=None)
            with RunWriter(folder, manifest) as writer:
                started = time.perf_counter()
                writer.append(record)
                seconds += time.perf_counter() - started
            size = sum(file.stat().st_size for file in Path(folder).iterdir())
            thousands = sum(len(rollout.token_ids) for rollout in group.rollouts) / 1000
            per_token = group.rollouts[0].neurons.shape[1]
            self.written = [
                f"\nWritten: {size / 2**20 / thousands:.2f} MiB per 1,000 tokens; a plain array of the ids as int64 "
                f"takes {8 * per_token / 2**20 * 1000:.2f} MiB.",
            ]
        return seconds


def compare(run: Callable[[], float], reference: Callable[[], float], repeats: int) -> list[tuple[float, float]]:
    """Seconds of both, in pairs of alternating order."""
    pairs = []
    for i in range(repeats):
        if i % 2:
            other = reference()
            pairs.append((run(), other))
        else:
            mine = run()
            pairs.append((mine, reference()))
    return pairs


def rows_of(ways: Ways, n: int) -> dict[str, tuple[str, str, Callable[[], float], Callable[[], float]]]:
    """By name: what is timed, against what, and both as functions."""
    short, long, turn = ways.ids(), ways.ids(length=512), ways.ids(length=2048)
    on, tokens = RecordingConfig(), 64
    off = lambda: ways.ours(short, n, tokens, None)  # noqa: E731
    return {
        "activation": ("recorder on, activation", "recorder off", lambda: ways.ours(short, n, tokens, on), off),
        "attribution": (
            "recorder on, attribution",
            "recorder off",
            lambda: ways.ours(short, n, tokens, RecordingConfig("attribution")),
            off,
        ),
        "short": (
            f"best-of-{n}, prompt of {len(short)} tokens, {tokens} new",
            "generate",
            lambda: ways.ours(short, n, tokens, on),
            lambda: ways.generate(short, n, tokens),
        ),
        "long": (
            f"best-of-{n}, prompt of 512 tokens, {tokens} new",
            "generate",
            lambda: ways.ours(long, n, tokens, on),
            lambda: ways.generate(long, n, tokens),
        ),
        "mixed": (
            f"best-of-{n}, {len(MIXED)} questions, answers of 1 to 128 tokens",
            "generate",
            lambda: sum(ways.run(ways.ids(q), n, 128, on, full=False)[0] for q in MIXED),
            lambda: sum(ways.generate(ways.ids(q), n, 128, full=False) for q in MIXED),
        ),
        "int8": (
            f"best-of-{n}, {tokens} new, int8",
            "in the other dtype",
            lambda: ways.in_int8.ours(short, n, tokens, on),
            lambda: ways.ours(short, n, tokens, on),
        ),
        "greedy": (
            f"greedy, {tokens} new",
            "generate, greedy",
            lambda: ways.ours(short, 1, tokens, None),
            lambda: ways.generate(short, 1, tokens),
        ),
        "early": (
            "best-of-64 of 256 tokens, stopped after the first chunk",
            "all 64 to their end",
            lambda: ways.stopped_early("first_chunk"),
            lambda: ways.stopped_early("never"),
        ),
        "halving": (
            "best-of-64 of 256 tokens, halved at chunk ends",
            "all 64 to their end",
            lambda: ways.stopped_early("halving"),
            lambda: ways.stopped_early("never"),
        ),
        "turn": (
            f"best-of-{n}, prompt of 2,048 tokens of which 1,920 were read for the turn before, 32 new",
            "without the turn before",
            lambda: ways.next_turn(turn, n, 32, 1920),
            lambda: ways.next_turn(turn, n, 32, 0),
        ),
        "capture": (
            f"{n} candidates of {tokens} tokens, everything written to disk",
            "recorded, not written",
            lambda: ways.recorded(short, n, tokens, written=True),
            lambda: ways.recorded(short, n, tokens, written=False),
        ),
    }


def main() -> None:
    """Time the rows and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="default: all but those of 64 candidates")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    ways = Ways(load_model(args.model, dtype=args.dtype), args.model)
    rows = rows_of(ways, args.n)
    chosen = args.rows or [name for name in rows if name not in ("early", "halving")]
    loaded = ways.loaded
    dtype = str(loaded.dtype).removeprefix("torch.")
    print(f"{loaded.name}, {dtype}, {loaded.device}, {torch.get_num_threads()} threads, {args.repeats} pairs\n")
    ways.ours(ways.ids(), 2, 8, RecordingConfig())
    ways.generate(ways.ids(), 2, 8)
    print("| way | against | seconds | seconds | time ratio | range |\n|---|---|---|---|---|---|")
    if "int8" in chosen:
        ways.in_int8.ours(ways.ids(), 2, 8, RecordingConfig())
    for name in chosen:
        way, against, run, reference = rows[name]
        pairs = compare(run, reference, args.repeats)
        ratios = sorted(mine / other for mine, other in pairs)
        seconds = f"{statistics.median(a for a, _ in pairs):.2f} | {statistics.median(b for _, b in pairs):.2f}"
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        print(f"| {way} | {against} | {seconds} | {statistics.median(ratios):.3f} | {spread} |", flush=True)
    for line in ways.written:
        print(line)


if __name__ == "__main__":
    main()
