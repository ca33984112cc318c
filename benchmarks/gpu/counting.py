"""Count what a step of decoding does: operations of torch, and kernels on a GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch

from benchmarks.gpu.bench import Bench
from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.neurons.recording_config import RecordingConfig
from tests.step_trace import StepTrace
from tests.tiny_models import byte_tokenizer


def step_counts(bench: Bench, generations: int, recording: RecordingConfig | None) -> list[str]:
    """Return what one step of requests of two candidates does, without what a chunk costs once.

    Returns:
        Operations of torch, those of them that copy, and calls for which the host waits, as on a GPU; then the kernels,
        copies and waits that the profiler finds on a GPU.
    """
    engine = HFEngine(bench.model, byte_tokenizer(), steps_per_read=4)
    for i in range(generations):
        engine.start(GenerationRequest([i + 1, 2, 3], bench.sampling(2, 64), recording))
    engine.step(4)
    cells = []
    for count, names in ((in_torch, ("operations", "copies", "waits")), (on_the_gpu, ("kernels", "copies", "waits"))):
        few, many = count(lambda: engine.step(4)), count(lambda: engine.step(12))
        cells += [f"{(many[name] - few[name]) / 8:.2f}" for name in names]
    engine.close()
    return cells


def in_torch(run: Callable[[], object]) -> Counter[str]:
    with StepTrace() as trace:
        run()
    waits = trace.synchronisations.total()
    return Counter(operations=trace.operations.total(), copies=trace.copies, waits=waits)


def on_the_gpu(run: Callable[[], object]) -> Counter[str]:
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    on_gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    with profile(activities=[ProfilerActivity.CPU, *on_gpu]) as profiled:
        run()
    found: Counter[str] = Counter()
    for event in profiled.events():
        if event.device_type == DeviceType.CUDA:
            found["copies" if event.name.startswith("Mem") else "kernels"] += 1
        elif event.name in {"cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize"}:
            found["waits"] += 1
    return found
