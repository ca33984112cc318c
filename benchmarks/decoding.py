"""Measure what recording costs and what the engine saves, as ratios of times taken in turn in one process.

    python benchmarks/decoding.py [--model MODEL] [--dtype DTYPE] [--rows ROW ...] [--repeats 5]

Every row runs one way of decoding and its reference alternately, and reports the median and the range of the paired
ratios of their times. No candidate may end early in rows that compare equal numbers of tokens.
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
from nad_agents.evaluation.recording import describe_model, make_manifest
from nad_agents.models import DEFAULT_MODEL, LoadedModel, load_model
from nad_agents.neurons.recording_config import RecordingConfig
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
"""Questions whose answers differ a lot in length."""


class TimedModel:
    """The runs that are timed, on one model.

    Args:
        loaded: The model.
        source: Where the model was loaded from.
        clock: Clock of the single runs, which returns seconds.
    """

    def __init__(
        self, loaded: LoadedModel, source: str = DEFAULT_MODEL, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.clock = clock
        self.loaded = loaded
        self.source = source
        self.engine = HFEngine(loaded.model, loaded.tokenizer, name=loaded.name)
        self.decoder = NeuronAgreementDecoder(loaded)
        self.storage_notes: list[str] = []

    @cached_property
    def in_int8(self) -> TimedModel:
        """The same model with eight-bit weights."""
        return TimedModel(load_model(self.source, dtype="int8"), self.source)

    def prompt_ids(self, question: str = PROMPT, length: int = 0) -> list[int]:
        """Return a question's tokens, repeated up to a length if one is given."""
        message = [{"role": "user", "content": question}]
        text = self.loaded.tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
        ids = self.loaded.tokenizer(text)["input_ids"]
        return (ids * (length // len(ids) + 1))[:length] if length else ids

    def run_engine(
        self, prompt: list[int], n: int, tokens: int, recording: RecordingConfig | None, *, full: bool = True
    ) -> tuple[float, RolloutGroup]:
        """Run the engine and return seconds and candidates; with `full`, no candidate may end early."""
        sampling = SamplingConfig(
            n=n,
            max_new_tokens=tokens,
            temperature=0.8 if n > 1 else 0.0,
            seed=1,
            generation_options={"min_new_tokens": tokens} if full else {},
        )
        started = self.clock()
        generation = self.engine.start(GenerationRequest(prompt, sampling, recording))
        while generation.live:
            self.engine.step(32)
        group = generation.group()
        seconds = self.clock() - started
        self.engine.release(generation)
        return seconds, group

    def engine_seconds(self, prompt: list[int], n: int, tokens: int, recording: RecordingConfig | None) -> float:
        """Time the engine."""
        return self.run_engine(prompt, n, tokens, recording)[0]

    def generate_seconds(self, prompt: list[int], n: int, tokens: int, *, full: bool = True) -> float:
        """Time transformers' own `generate`."""
        sampled = {"do_sample": True, "temperature": 0.8, "top_k": 50, "top_p": 0.95, "num_return_sequences": n}
        options = sampled if n > 1 else {"do_sample": False}
        started = self.clock()
        with torch.inference_mode():
            self.engine.model.generate(
                torch.tensor([prompt], device=self.engine.model.device),
                min_new_tokens=tokens if full else None,
                max_new_tokens=tokens,
                **options,
            )
        return self.clock() - started

    def next_turn_seconds(self, prompt: list[int], n: int, tokens: int, known: int) -> float:
        """Time the engine on a prompt of which it read the first `known` tokens for an earlier request."""
        self.engine = HFEngine(self.loaded.model, self.loaded.tokenizer, prefix_bytes=2**30)
        if known:
            self.engine_seconds(prompt[:known], 1, 1, None)
        return self.engine_seconds(prompt, n, tokens, RecordingConfig())

    def pruned_seconds(self, pruning: str) -> float:
        """Time best-of-64 with 256 tokens through the decoder, including selection."""
        sampling = SamplingConfig(
            n=64, max_new_tokens=256, temperature=0.8, seed=1, generation_options={"min_new_tokens": 256}
        )
        started = time.perf_counter()
        self.decoder.decode(PROMPT, sampling=sampling, config=NADConfig(pruning=pruning))
        return time.perf_counter() - started

    def recording_seconds(self, prompt: list[int], n: int, tokens: int, *, written: bool) -> float:
        """Time the engine and, if `written`, writing what it recorded durably to disk."""
        seconds, group = self.run_engine(prompt, n, tokens, RecordingConfig())
        if not written:
            return seconds
        record = ProblemRecord("1", group, task={}, prompt=PROMPT, seed=1, seconds={}, versions={})
        sampling, config = SamplingConfig(n=n, max_new_tokens=tokens, seed=1), NADConfig()
        with tempfile.TemporaryDirectory() as folder:
            problem = Problem("1", "answer", PROMPT, PROMPT, answer="-")
            manifest = make_manifest([problem], {}, describe_model(self.loaded), sampling, config, order_seed=None)
            with RunWriter(folder, manifest) as writer:
                started = time.perf_counter()
                writer.append(record)
                seconds += time.perf_counter() - started
            size = sum(file.stat().st_size for file in Path(folder).iterdir())
            thousands = sum(len(rollout.token_ids) for rollout in group.rollouts) / 1000
            per_token = group.rollouts[0].neurons.shape[1]
            self.storage_notes = [
                f"\nWritten: {size / 2**20 / thousands:.2f} MiB per 1,000 tokens; a plain array of the ids as int64 "
                f"takes {8 * per_token / 2**20 * 1000:.2f} MiB.",
            ]
        return seconds


def paired_seconds(run: Callable[[], float], reference: Callable[[], float], repeats: int) -> list[tuple[float, float]]:
    """Time both functions in pairs of alternating order."""
    pairs = []
    for i in range(repeats):
        if i % 2:
            other = reference()
            pairs.append((run(), other))
        else:
            mine = run()
            pairs.append((mine, reference()))
    return pairs


def comparisons(timed: TimedModel, n: int) -> dict[str, tuple[str, str, Callable[[], float], Callable[[], float]]]:
    """Return, by name, what is timed, against what, and both as functions that return seconds."""
    short, long, turn = timed.prompt_ids(), timed.prompt_ids(length=512), timed.prompt_ids(length=2048)
    on, tokens = RecordingConfig(), 64

    def off() -> float:
        return timed.engine_seconds(short, n, tokens, None)

    return {
        "activation": (
            "recorder on, activation",
            "recorder off",
            lambda: timed.engine_seconds(short, n, tokens, on),
            off,
        ),
        "attribution": (
            "recorder on, attribution",
            "recorder off",
            lambda: timed.engine_seconds(short, n, tokens, RecordingConfig("attribution")),
            off,
        ),
        "short": (
            f"best-of-{n}, prompt of {len(short)} tokens, {tokens} new",
            "generate",
            lambda: timed.engine_seconds(short, n, tokens, on),
            lambda: timed.generate_seconds(short, n, tokens),
        ),
        "long": (
            f"best-of-{n}, prompt of 512 tokens, {tokens} new",
            "generate",
            lambda: timed.engine_seconds(long, n, tokens, on),
            lambda: timed.generate_seconds(long, n, tokens),
        ),
        "mixed": (
            f"best-of-{n}, {len(MIXED)} questions, answers of 1 to 128 tokens",
            "generate",
            lambda: sum(timed.run_engine(timed.prompt_ids(q), n, 128, on, full=False)[0] for q in MIXED),
            lambda: sum(timed.generate_seconds(timed.prompt_ids(q), n, 128, full=False) for q in MIXED),
        ),
        "int8": (
            f"best-of-{n}, {tokens} new, int8",
            "in the other dtype",
            lambda: timed.in_int8.engine_seconds(short, n, tokens, on),
            lambda: timed.engine_seconds(short, n, tokens, on),
        ),
        "greedy": (
            f"greedy, {tokens} new",
            "generate, greedy",
            lambda: timed.engine_seconds(short, 1, tokens, None),
            lambda: timed.generate_seconds(short, 1, tokens),
        ),
        "early": (
            "best-of-64 of 256 tokens, stopped after the first chunk",
            "all 64 to their end",
            lambda: timed.pruned_seconds("first_chunk"),
            lambda: timed.pruned_seconds("never"),
        ),
        "halving": (
            "best-of-64 of 256 tokens, halved at chunk ends",
            "all 64 to their end",
            lambda: timed.pruned_seconds("halving"),
            lambda: timed.pruned_seconds("never"),
        ),
        "turn": (
            f"best-of-{n}, prompt of 2,048 tokens of which 1,920 were read for the turn before, 32 new",
            "without the turn before",
            lambda: timed.next_turn_seconds(turn, n, 32, 1920),
            lambda: timed.next_turn_seconds(turn, n, 32, 0),
        ),
        "capture": (
            f"{n} candidates of {tokens} tokens, everything written to disk",
            "recorded, not written",
            lambda: timed.recording_seconds(short, n, tokens, written=True),
            lambda: timed.recording_seconds(short, n, tokens, written=False),
        ),
    }


def main() -> None:
    """Time the chosen rows and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="default: all but those of 64 candidates")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    timed = TimedModel(load_model(args.model, dtype=args.dtype), args.model)
    rows = comparisons(timed, args.n)
    chosen = args.rows or [name for name in rows if name not in ("early", "halving")]
    loaded = timed.loaded
    dtype = str(loaded.dtype).removeprefix("torch.")
    print(f"{loaded.name}, {dtype}, {loaded.device}, {torch.get_num_threads()} threads, {args.repeats} pairs\n")
    timed.engine_seconds(timed.prompt_ids(), 2, 8, RecordingConfig())
    timed.generate_seconds(timed.prompt_ids(), 2, 8)
    print("| way | against | seconds | seconds | time ratio | range |\n|---|---|---|---|---|---|")
    if "int8" in chosen:
        timed.in_int8.engine_seconds(timed.prompt_ids(), 2, 8, RecordingConfig())
    for name in chosen:
        way, against, run, reference = rows[name]
        pairs = paired_seconds(run, reference, args.repeats)
        ratios = sorted(mine / other for mine, other in pairs)
        seconds = f"{statistics.median(a for a, _ in pairs):.2f} | {statistics.median(b for _, b in pairs):.2f}"
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        print(f"| {way} | {against} | {seconds} | {statistics.median(ratios):.3f} | {spread} |", flush=True)
    for line in timed.storage_notes:
        print(line)


if __name__ == "__main__":
    main()
