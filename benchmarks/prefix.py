"""Measure what it saves that all candidates attend to one copy of their prompt.

    python benchmarks/prefix.py [--model MODEL] [--dtype DTYPE] [--what WHAT ...] [--lengths 64 512 2048 8000]

What is measured, with 16 candidates and in pairs of alternating order where times are compared:

- step: the time of a step after prompts of several lengths, with one copy of the prompt and with a copy per candidate
- best: best-of-16 with a prompt of 512 tokens and 64 new ones against transformers' `generate`
- memory: the peak of 16 candidates and of one after the longest prompt, each in a process of its own (Linux only)
- agent: ten steps of an agent, whose conversation grows from step to step
- exact: how far the log-probabilities of drawn tokens are from those of one float32 forward pass over the whole text
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from decoding import TimedModel, paired_seconds
from transformers import PreTrainedModel

from nad_agents import SamplingConfig
from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.models import DEFAULT_MODEL, load_model
from nad_agents.neurons.recording_config import RecordingConfig

N = 16
WHAT = ("step", "best", "memory", "agent", "exact")
AGENT_STEPS, AGENT_TOKENS, AGENT_FIRST = 10, 400, 2000
"""Steps of the agent, tokens that its conversation gains in each, and those of the first prompt."""


def engine(timed: TimedModel, *, share_prompts: bool, prefix_bytes: int = 0) -> HFEngine:
    """Return an engine whose candidates have one copy of the prompt or one each."""
    loaded = timed.loaded
    return HFEngine(loaded.model, loaded.tokenizer, prefix_bytes=prefix_bytes, share_prompts=share_prompts)


def request(prompt: list[int], n: int, tokens: int) -> GenerationRequest:
    """Return a request whose candidates all have the same length."""
    sampling = SamplingConfig(
        n=n, max_new_tokens=tokens, temperature=0.8, seed=1, generation_options={"min_new_tokens": tokens}
    )
    return GenerationRequest(prompt, sampling)


def step_milliseconds(timed: TimedModel, prompt: list[int], n: int, steps: int, *, copies: bool) -> dict[bool, float]:
    """Return the median time of a step with one copy of the prompt (True) and, if asked for, a copy each (False)."""
    engines = {share: engine(timed, share_prompts=share) for share in ((True, False) if copies else (True,))}
    for one in engines.values():
        one.start(request(prompt, n, steps + 3))
        one.step(2)
    seconds: dict[bool, list[float]] = {share: [] for share in engines}
    for i in range(steps):
        for share in sorted(engines, reverse=bool(i % 2)):
            started = timed.clock()
            engines[share].step(1)
            seconds[share].append(timed.clock() - started)
    return {share: 1000 * statistics.median(times) for share, times in seconds.items()}


def peak_mebibytes(n: int) -> int:
    """Return the peak of a process that generates `n` candidates after the longest prompt, weights included."""
    command = [sys.executable, *sys.argv, "--peak-of", str(n)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def print_peak(args: argparse.Namespace) -> None:
    """Generate in this process and print the peak of its resident memory in MiB."""
    timed = TimedModel(load_model(args.model, dtype=args.dtype))
    prompt = timed.prompt_ids(length=max(args.lengths))
    # loading takes more memory than generating, so the record of the peak starts anew
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    one = engine(timed, share_prompts=not args.copies)
    one.start(request(prompt, args.peak_of, 16))
    one.step(15)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    print(next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) // 1024)


def agent_seconds(timed: TimedModel, *, share_prompts: bool) -> float:
    """Time an agent whose every prompt is the one before with more behind it."""
    one = engine(timed, share_prompts=share_prompts, prefix_bytes=2**31)
    conversation = timed.prompt_ids(length=AGENT_FIRST + AGENT_STEPS * AGENT_TOKENS)
    started = timed.clock()
    for step in range(AGENT_STEPS):
        generation = one.start(request(conversation[: AGENT_FIRST + step * AGENT_TOKENS], N, 32))
        while generation.live:
            one.step(32)
        one.release(generation)
    return timed.clock() - started


@torch.inference_mode()
def errors(timed: TimedModel, exact: PreTrainedModel, prompt: list[int], *, share_prompts: bool) -> torch.Tensor:
    """Return the differences of four candidates' log-probabilities from those of one pass over the whole text."""
    one = engine(timed, share_prompts=share_prompts)
    sampling = SamplingConfig(n=4, max_new_tokens=32, temperature=1.0, top_k=0, top_p=1.0, seed=1)
    generation = one.start(GenerationRequest(prompt, sampling))
    while generation.live:
        one.step(32)
    differences = []
    for rollout in generation.group().rollouts:
        tokens = torch.tensor(rollout.token_ids)
        text = torch.cat([torch.tensor(prompt), tokens])[None]
        logprobs = exact(text, logits_to_keep=len(tokens) + 1).logits[0, :-1].log_softmax(-1)
        differences.append(torch.tensor(rollout.logprobs) - logprobs.gather(-1, tokens[:, None].long())[:, 0])
    return torch.cat(differences)


def print_exactness(timed: TimedModel, args: argparse.Namespace) -> None:
    """Print the greatest and the root mean square difference with one copy of the prompt and with a copy each."""
    exact = load_model(args.model, dtype="float32").model
    print("\n| prompt | one copy: greatest | root mean square | a copy each: greatest | root mean square |")
    print("|---|---|---|---|---|")
    for length in args.lengths:
        cells = []
        for share in (True, False):
            found = errors(timed, exact, timed.prompt_ids(length=length), share_prompts=share)
            cells += [f"{found.abs().max():.1e}", f"{found.square().mean().sqrt():.1e}"]
        print(f"| {length:,} | {' | '.join(cells)} |", flush=True)


def print_pairs(way: str, against: str, pairs: list[tuple[float, float]]) -> None:
    """Print a row with the medians of both times and the median and range of their ratios."""
    ratios = sorted(mine / other for mine, other in pairs)
    seconds = f"{statistics.median(a for a, _ in pairs):.2f} | {statistics.median(b for _, b in pairs):.2f}"
    print(f"| {way} | {against} | {seconds} | {statistics.median(ratios):.2f} | {ratios[0]:.2f} to {ratios[-1]:.2f} |")


def main() -> None:
    """Measure the chosen parts and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--what", nargs="+", choices=WHAT, default=list(WHAT))
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 512, 2048, 8000])
    parser.add_argument("--n", type=int, default=N, help="step: number of candidates")
    parser.add_argument("--copies-up-to", type=int, default=8000, help="step: longest prompt also timed with copies")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--processor-time", action="store_true", help="for busy machines, with one thread")
    parser.add_argument("--copies", action="store_true", help="memory: with a copy of the prompt per candidate")
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak_of:
        print_peak(args)
        return
    clock = time.process_time if args.processor_time else time.perf_counter
    timed = TimedModel(load_model(args.model, dtype=args.dtype), args.model, clock)
    dtype = str(timed.loaded.dtype).removeprefix("torch.")
    print(f"{timed.loaded.name}, {dtype}, {timed.loaded.device}, {torch.get_num_threads()} threads, n = {args.n}\n")
    if "step" in args.what:
        print("| prompt | ms a step, one copy | ms a step, a copy each | ratio |\n|---|---|---|---|")
        for length in args.lengths:
            copies, prompt = length <= args.copies_up_to, timed.prompt_ids(length=length)
            times = step_milliseconds(timed, prompt, args.n, args.steps, copies=copies)
            against = f"{times[False]:.0f} | {times[False] / times[True]:.2f}" if copies else "not measured |"
            print(f"| {length:,} | {times[True]:.0f} | {against} |", flush=True)
    if "best" in args.what or "agent" in args.what:
        print("\n| way | against | seconds | seconds | time ratio | range |\n|---|---|---|---|---|---|")
    if "best" in args.what:
        prompt = timed.prompt_ids(length=512)
        pairs = paired_seconds(
            lambda: timed.engine_seconds(prompt, N, 64, RecordingConfig()),
            lambda: timed.generate_seconds(prompt, N, 64),
            args.repeats,
        )
        print_pairs("best-of-16, prompt of 512 tokens, 64 new, recorded", "generate", pairs)
    if "agent" in args.what:
        pairs = paired_seconds(
            lambda: agent_seconds(timed, share_prompts=True),
            lambda: agent_seconds(timed, share_prompts=False),
            args.repeats,
        )
        grown = AGENT_FIRST + (AGENT_STEPS - 1) * AGENT_TOKENS
        print_pairs(f"agent, prompts of {AGENT_FIRST:,} to {grown:,} tokens, 32 new each", "a copy each", pairs)
    if "exact" in args.what:
        print_exactness(timed, args)
    if "memory" in args.what:
        few, many = peak_mebibytes(1), peak_mebibytes(N)
        print(
            f"\nPeak after {max(args.lengths):,} tokens: {few:,} MiB with one candidate, {many:,} MiB with {N} ", end=""
        )
        print(f"({many / few:.2f} times as much).")


if __name__ == "__main__":
    main()
