"""A captured step of recorded candidates, against the model's own step."""

from __future__ import annotations

from contextlib import ExitStack
from unittest import mock

from benchmarks.gpu.bench import Bench
from nad_agents.engine.base import GenerationRequest
from nad_agents.engine.hf.captured import compile_option, step_capture
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.neurons.recording_config import RecordingConfig
from tests.recorded_graphs import RecordedGraphs
from tests.tiny_models import byte_tokenizer

STEPS = 20


def captured_ratio(bench: Bench, n: int) -> str:
    """Time steps that are captured, which have to be exact, and the model's own.

    Args:
        bench: What is measured. Where it has no CUDA, a recorded list of operations takes the graph's place,
            which shows that the code runs and nothing else.
        n: Number of candidates.
    """
    seconds = []
    with ExitStack() as patched:
        if bench.device.type != "cuda":
            for module in (compile_option, step_capture):
                patched.enter_context(mock.patch.object(module, "graphs_for", return_value=RecordedGraphs()))
        for option in (True, False):
            engine = HFEngine(bench.model, byte_tokenizer(), compile=option)
            sampling = bench.sampling(n, 3 + 2 * STEPS)
            generation = engine.start(GenerationRequest(bench.prompt(16), sampling, RecordingConfig()))
            # the captured step proves itself here
            engine.step(3)
            seconds.append(min(bench.seconds(lambda one=engine: one.step(STEPS)) for _ in range(2)) / STEPS)
            engine.release(generation)
            engine.close()
    captured, own = seconds
    return f"{captured / own:.2f} ({1000 * captured:.1f} for {1000 * own:.1f} ms)"
