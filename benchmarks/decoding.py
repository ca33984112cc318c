"""What recording costs, and what the engine saves: ratios of things timed in turn in one process.

    python benchmarks/decoding.py [--model MODEL] [--dtype DTYPE] [--n 8 16] [--tokens 64] [--repeats 5]

Every row times the named way and its reference alternately and gives the median of the paired ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf import HFEngine
from nad_agents.models import DEFAULT_MODEL, load_model
from nad_agents.recorder import RecordingConfig
from nad_agents.types import SamplingConfig

PROMPT = "Write a Python function that merges two sorted lists into one sorted list, and explain how it works."


def engine_run(engine: HFEngine, prompt: list[int], n: int, tokens: int, recording: RecordingConfig | None) -> float:
    sampling = SamplingConfig(
        n=n,
        max_new_tokens=tokens,
        temperature=1e-6 if n == 1 else 0.8,
        # no row ends early, so that every way decodes the same number of tokens
        generation={"min_new_tokens": tokens},
    )
    if n == 1:
        sampling = sampling.model_copy(update={"temperature": 0.0})
    started = time.perf_counter()
    generation = engine.start(GenerationRequest(prompt, sampling, 1, recording))
    while generation.live:
        engine.step(32)
    seconds = time.perf_counter() - started
    engine.release(generation)
    return seconds


def generate_run(engine: HFEngine, prompt: list[int], n: int, tokens: int) -> float:
    sampled = {"do_sample": True, "temperature": 0.8, "top_k": 50, "top_p": 0.95, "num_return_sequences": n}
    options = sampled if n > 1 else {"do_sample": False}
    started = time.perf_counter()
    with torch.inference_mode():
        engine.model.generate(
            torch.tensor([prompt], device=engine.model.device),
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            **options,
        )
    return time.perf_counter() - started


def compare(run: Callable[[], float], reference: Callable[[], float], repeats: int) -> tuple[float, float, float]:
    """Median seconds of both and median of the paired ratios, the order alternating."""
    pairs = []
    for i in range(repeats):
        if i % 2:
            other = reference()
            pairs.append((run(), other))
        else:
            mine = run()
            pairs.append((mine, reference()))
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--n", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompt-tokens", type=int, default=0, help="pad the prompt to so many tokens")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    loaded = load_model(args.model, dtype=args.dtype)
    engine = HFEngine(loaded.model, loaded.tokenizer, name=loaded.name)
    text = loaded.tokenizer.apply_chat_template(
        [{"role": "user", "content": PROMPT}], add_generation_prompt=True, tokenize=False
    )
    prompt = loaded.tokenizer(text)["input_ids"]
    if args.prompt_tokens:
        prompt = (prompt * (args.prompt_tokens // len(prompt) + 1))[: args.prompt_tokens]
    print(
        f"{loaded.name}, {str(loaded.dtype).removeprefix('torch.')}, {loaded.device}, "
        f"{torch.get_num_threads()} threads, "
        f"prompt {len(prompt)} tokens, {args.tokens} new tokens, median of {args.repeats} pairs\n"
    )
    engine_run(engine, prompt, 2, 8, RecordingConfig())
    print("| way | against | N | tokens/s | tokens/s | time ratio |\n|---|---|---|---|---|---|")

    def row(name: str, against: str, n: int, run: Callable[[], float], reference: Callable[[], float]) -> None:
        mine, other, ratio = compare(run, reference, args.repeats)
        speeds = f"{n * args.tokens / mine:.0f} | {n * args.tokens / other:.0f}"
        print(f"| {name} | {against} | {n} | {speeds} | {ratio:.3f} |", flush=True)

    def timed(n: int, recording: RecordingConfig | None) -> Callable[[], float]:
        return lambda: engine_run(engine, prompt, n, args.tokens, recording)

    for n in args.n:
        off = timed(n, None)
        row("recording, activation", "recorder off", n, timed(n, RecordingConfig()), off)
        row("recording, attribution", "recorder off", n, timed(n, RecordingConfig("attribution")), off)
        library = lambda n=n: generate_run(engine, prompt, n, args.tokens)  # noqa: E731
        row("recording, activation", "generate", n, timed(n, RecordingConfig()), library)
    row("greedy, recorder off", "generate", 1, timed(1, None), lambda: generate_run(engine, prompt, 1, args.tokens))


if __name__ == "__main__":
    main()
