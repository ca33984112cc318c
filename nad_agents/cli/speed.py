"""`nad doctor --bench`: what best-of-N costs on this machine, in about a minute."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from nad_agents.cli.display import loading

if TYPE_CHECKING:
    from nad_agents.cli.doctor import Finding
    from nad_agents.engine.hf import HFEngine
    from nad_agents.recorder import RecordingConfig

__all__ = ["measure_speed"]

_TEXT = "Write a Python function that merges two sorted lists into one sorted list, and explain how it works. "
_PROMPT_TOKENS = 256
_TOKENS = 48
_ROUNDS = 3


def measure_speed(console: Console, model: str) -> Iterator[Finding]:
    """Time prefill, decoding with and without the recorder, selection, and a check in the sandbox.

    Args:
        console: where progress goes.
        model: hub id, local folder or GGUF file.
    """
    from nad_agents.cli.doctor import Finding

    started = time.perf_counter()
    with loading(console, model):
        from nad_agents.engine.hf import HFEngine
        from nad_agents.models import load_model
        from nad_agents.recorder import RecordingConfig

        loaded = load_model(model)
        engine = HFEngine(loaded.model, loaded.tokenizer, name=loaded.name)
    yield Finding("load", "ok", f"{loaded.name} in {time.perf_counter() - started:.1f} s")
    prompt = (loaded.tokenizer(_TEXT)["input_ids"] * _PROMPT_TOKENS)[:_PROMPT_TOKENS]
    with console.status("Measuring ..."):
        _decode(engine, prompt, n=8, tokens=8, recording=RecordingConfig())  # what the first run allocates is not timed
        yield Finding("prefill", "ok", f"{_PROMPT_TOKENS / _prefill(engine, prompt):,.0f} tokens/s")
        run = partial(_decode, engine, prompt, tokens=_TOKENS)
        for n in (8, 16):
            one, on, off = _alternately(
                partial(run, n=1, recording=RecordingConfig()),
                partial(run, n=n, recording=RecordingConfig()),
                partial(run, n=n, recording=None),
            )
            if n == 8:
                yield Finding("one candidate", "ok", f"{_TOKENS / statistics.median(one):.1f} tokens/s")
            yield Finding(
                f"{n} candidates",
                "ok",
                f"{n * _TOKENS / statistics.median(on):.1f} tokens/s together, {_ratio(on, one):.1f} times the time of "
                f"one; recording neurons takes {100 * (_ratio(on, off) - 1):+.1f}%",
            )
        yield Finding("selection", "ok", f"{1000 * _select(engine, prompt):.0f} ms for 16 candidates (knn)")
        yield Finding("check in the sandbox", *_check())


def _decode(engine: HFEngine, prompt: list[int], *, n: int, tokens: int, recording: RecordingConfig | None) -> float:
    """Seconds for n candidates of exactly so many tokens, without the prefill."""
    from nad_agents.engine.base import GenerationRequest
    from nad_agents.types import SamplingConfig

    sampling = SamplingConfig(n=n, max_new_tokens=tokens, generation={"min_new_tokens": tokens})
    generation = engine.start(GenerationRequest(prompt, sampling, 1, recording))
    started = time.perf_counter()
    while generation.live:
        engine.step(32)
    seconds = time.perf_counter() - started
    engine.release(generation)
    return seconds


def _prefill(engine: HFEngine, prompt: list[int]) -> float:
    from nad_agents.engine.base import GenerationRequest
    from nad_agents.types import SamplingConfig

    taken = []
    for _ in range(_ROUNDS):
        generation = engine.start(GenerationRequest(prompt, SamplingConfig(n=1, max_new_tokens=1), 1, None))
        taken.append(generation.prefill_seconds)
        engine.release(generation)
    return statistics.median(taken)


def _alternately(*ways: Callable[[], float]) -> list[list[float]]:
    """Time every way once a round, so that a busy moment of the machine meets all of them."""
    rounds = [[way() for way in ways] for _ in range(_ROUNDS)]
    return [list(times) for times in zip(*rounds, strict=True)]


def _ratio(times: list[float], others: list[float]) -> float:
    """Median of the ratios of what was timed in the same round."""
    return statistics.median(mine / other for mine, other in zip(times, others, strict=True))


def _select(engine: HFEngine, prompt: list[int]) -> float:
    from nad_agents.engine.base import GenerationRequest
    from nad_agents.recorder import RecordingConfig
    from nad_agents.selectors import get_selector
    from nad_agents.types import SamplingConfig

    sampling = SamplingConfig(n=16, max_new_tokens=_TOKENS, generation={"min_new_tokens": _TOKENS})
    generation = engine.start(GenerationRequest(prompt, sampling, 1, RecordingConfig()))
    while generation.live:
        engine.step(32)
    group = generation.group()
    engine.release(generation)
    started = time.perf_counter()
    get_selector("knn").score(group)
    return time.perf_counter() - started


def _check() -> tuple[Literal["ok", "missing"], str]:
    from nad_sandbox import CodeVerifier, SandboxUnavailableError, auto_sandbox

    try:
        with auto_sandbox() as sandbox:
            verifier = CodeVerifier(sandbox, tests="assert double(2) == 4")
            answer = "```python\ndef double(x):\n    return 2 * x\n```"
            taken = []
            for _ in range(_ROUNDS):
                started = time.perf_counter()
                verifier.verify(answer)
                taken.append(time.perf_counter() - started)
            kind = type(sandbox).__name__
    except SandboxUnavailableError:
        return "missing", "no sandbox"
    return "ok", f"{1000 * statistics.median(taken):.0f} ms ({kind})"
