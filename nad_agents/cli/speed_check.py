"""The measurements of `nad doctor --bench`: what best-of-N costs on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console

from nad_agents.cli.display import loading
from nad_agents.cli.findings import Finding

if TYPE_CHECKING:
    from nad_agents.engine.base import Generation
    from nad_agents.engine.hf.engine import HFEngine
    from nad_agents.neurons.recording_config import RecordingConfig

__all__ = ["measure_speed"]

_TEXT = "Write a Python function that merges two sorted lists into one sorted list, and explain how it works. "
_PROMPT_TOKENS = 256
_TOKENS = 48
_ROUNDS = 3
_FIRST_TOKENS = 8
_STEPS = _TOKENS * (_ROUNDS * (3 + 5) + 2)
"""About how many steps of 8 candidates all measurements take: a step of 16 counts twice, and one candidate's once."""


def measure_speed(console: Console, model: str) -> Iterator[Finding]:
    """Time prefill, decoding with and without the recorder, selection, and a check in the sandbox.

    Args:
        console: Console that shows the progress.
        model: A hub id, a local folder or a GGUF file.
    """
    started = time.perf_counter()
    with loading(console, model):
        from nad_agents.engine.hf.engine import HFEngine
        from nad_agents.models import load_model
        from nad_agents.neurons.recording_config import RecordingConfig

        loaded = load_model(model)
        engine = HFEngine(loaded.model, loaded.tokenizer, name=loaded.name)
    yield Finding("load", "ok", f"{loaded.name} in {time.perf_counter() - started:.1f} s")
    prompt = (loaded.tokenizer(_TEXT)["input_ids"] * _PROMPT_TOKENS)[:_PROMPT_TOKENS]
    with console.status("Measuring ...") as status:
        # the first run allocates memory, so it gives only a first estimate and no figure
        step = _decode_seconds(engine, prompt, n=8, tokens=_FIRST_TOKENS, recording=RecordingConfig()) / _FIRST_TOKENS
        console.print(f"measuring takes about {_duration(step * _STEPS)}", highlight=False)
        status.update("Measuring the prefill ...")
        yield Finding("prefill", "ok", f"{_PROMPT_TOKENS / _prefill_seconds(engine, prompt):,.0f} tokens/s")
        decode = partial(_decode_seconds, engine, prompt, tokens=_TOKENS)
        for n in (8, 16):
            status.update(f"Measuring {n} candidates against one, with and without recording ...")
            one, recorded, unrecorded = _timed_in_turn(
                partial(decode, n=1, recording=RecordingConfig()),
                partial(decode, n=n, recording=RecordingConfig()),
                partial(decode, n=n, recording=None),
            )
            if n == 8:
                yield Finding("one candidate", "ok", f"{_TOKENS / statistics.median(one):.1f} tokens/s")
            yield Finding(
                f"{n} candidates",
                "ok",
                f"{n * _TOKENS / statistics.median(recorded):.1f} tokens/s together, "
                f"{_median_ratio(recorded, one):.1f} times the time of one; "
                f"recording neurons takes {100 * (_median_ratio(recorded, unrecorded) - 1):+.1f}%",
            )
        status.update("Measuring selection and checks ...")
        yield Finding("selection", "ok", f"{1000 * _select_seconds(engine, prompt):.0f} ms for 16 candidates (knn)")
        yield _measure_check()


def _duration(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{round(seconds / 60)} min"


def _prefill_seconds(engine: HFEngine, prompt: list[int]) -> float:
    from nad_agents.engine.base import GenerationRequest
    from nad_agents.types import SamplingConfig

    seconds = []
    for _ in range(_ROUNDS):
        generation = engine.start(GenerationRequest(prompt, SamplingConfig(n=1, max_new_tokens=1, seed=1)))
        seconds.append(generation.prefill_seconds)
        engine.release(generation)
    return statistics.median(seconds)


def _decode_seconds(
    engine: HFEngine, prompt: list[int], *, n: int, tokens: int, recording: RecordingConfig | None
) -> float:
    """Return the seconds for decoding `n` candidates of exactly `tokens` tokens, without the prefill."""
    generation = _start(engine, prompt, n=n, tokens=tokens, recording=recording)
    started = time.perf_counter()
    while generation.live:
        engine.step(32)
    seconds = time.perf_counter() - started
    engine.release(generation)
    return seconds


def _select_seconds(engine: HFEngine, prompt: list[int]) -> float:
    """Return the seconds in which the selector knn scores 16 candidates."""
    from nad_agents.neurons.recording_config import RecordingConfig
    from nad_agents.selectors import get_selector

    generation = _start(engine, prompt, n=16, tokens=_TOKENS, recording=RecordingConfig())
    while generation.live:
        engine.step(32)
    group = generation.group()
    engine.release(generation)
    started = time.perf_counter()
    get_selector("knn").score(group)
    return time.perf_counter() - started


def _start(
    engine: HFEngine, prompt: list[int], *, n: int, tokens: int, recording: RecordingConfig | None
) -> Generation:
    from nad_agents.engine.base import GenerationRequest
    from nad_agents.types import SamplingConfig

    sampling = SamplingConfig(n=n, max_new_tokens=tokens, seed=1, generation_options={"min_new_tokens": tokens})
    return engine.start(GenerationRequest(prompt, sampling, recording))


def _timed_in_turn(*measurements: Callable[[], float]) -> list[list[float]]:
    """Take every measurement once a round, so that a busy moment of the machine affects all of them."""
    rounds = [[measure() for measure in measurements] for _ in range(_ROUNDS)]
    return [list(seconds) for seconds in zip(*rounds, strict=True)]


def _median_ratio(seconds: list[float], others: list[float]) -> float:
    """Return the median ratio of two measurements from the same round."""
    return statistics.median(mine / other for mine, other in zip(seconds, others, strict=True))


def _measure_check() -> Finding:
    from nad_sandbox import CodeVerifier, SandboxUnavailableError, auto_sandbox

    name = "check in the sandbox"
    try:
        with auto_sandbox() as sandbox:
            verifier = CodeVerifier(sandbox, tests="assert double(2) == 4")
            answer = "```python\ndef double(x):\n    return 2 * x\n```"
            seconds = []
            for _ in range(_ROUNDS):
                started = time.perf_counter()
                verifier.verify(answer)
                seconds.append(time.perf_counter() - started)
            kind = type(sandbox).__name__
    except SandboxUnavailableError:
        return Finding(name, "missing", "no sandbox")
    return Finding(name, "ok", f"{1000 * statistics.median(seconds):.0f} ms ({kind})")
