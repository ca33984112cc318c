"""Captured steps give what the model's own steps give on the device, whatever else happens in the process."""

import copy
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from nad_agents import NADConfig, NeuronAgreementDecoder, testing
from nad_agents.engine.hf.available_memory import available_device_memory
from nad_agents.engine.hf.captured import captured_steps
from nad_agents.engine.hf.captured.graphs import CudaGraphs
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.types import SamplingConfig
from tests.captured_steps import assert_same, engine
from tests.generations import ids, run, seeded
from tests.model_families import family_model
from tests.tiny_models import make_model

FREE: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
RECORDING = RecordingConfig(top_k_neurons=12, top_k_neurons_per_layer=8)
LOGGER = captured_steps.__name__
TWO_GPUS = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")


def model_on(device, family="llama", **options):
    return make_model(family, **options).to(device)


def requests_of_all_kinds():
    """Rows that end at different times, by their length, an end token or a stop string."""
    return [
        seeded(ids("def add(a, b):"), SamplingConfig(n=6, max_new_tokens=40, **FREE), 3, RECORDING),
        seeded(ids("no"), SamplingConfig(n=5, max_new_tokens=24, **FREE, stop=("a", "e")), 5, RECORDING),
        seeded(ids("why"), SamplingConfig(n=1, temperature=0, max_new_tokens=19), 6),
    ]


def one_request(n=3, tokens=20, text="yes"):
    return seeded(ids(text), SamplingConfig(n=n, max_new_tokens=tokens, **FREE), 3, RECORDING)


def own_steps(model, *requests, **options):
    """What the model's own steps give."""
    return run(engine(model, compile=False), *requests, **options)


def is_capturing(device):
    if device.type == "cuda":
        return torch.cuda.is_current_stream_capturing()
    return any(type(mode).__name__ == "_Recording" for mode in _get_current_dispatch_mode_stack())


class TestTheSameCandidates:
    @pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2"])
    def test_of_requests_of_all_kinds(self, device, family):
        model = model_on(device, family)
        one = engine(model)
        for expected, found in zip(
            own_steps(model, *requests_of_all_kinds(), chunk=7),
            run(one, *requests_of_all_kinds(), chunk=7),
            strict=True,
        ):
            assert_same(expected, found)
        assert one._captured.graphs > 1

    @pytest.mark.parametrize("length", [250, 255, 256])
    def test_where_the_text_crosses_the_positions_of_a_graph(self, device, length):
        model = model_on(device)
        request = seeded(
            [1 + i % 200 for i in range(length)], SamplingConfig(n=3, max_new_tokens=12, **FREE), 3, RECORDING
        )
        one = engine(model)
        assert_same(own_steps(model, request, chunk=5)[0], run(one, request, chunk=5)[0])
        assert one._captured.graphs

    def test_of_a_mixture_of_experts(self, device):
        model = copy.deepcopy(family_model("Qwen 3 MoE")).to(device, torch.bfloat16)
        # only some GPUs multiply all experts without the host; on others the model takes its own steps
        grouped = device.type == "cpu" or torch.cuda.get_device_capability(device)[0] in {9, 10}
        one = engine(model, compile=True if grouped else "auto")
        (group,) = run(one, one_request())
        assert all(np.isfinite(rollout.logprobs).all() for rollout in group.rollouts)
        assert bool(one._captured.graphs) is grouped

    def test_in_bfloat16_the_step_proves_itself(self, device, caplog):
        model = model_on(device).to(torch.bfloat16)
        with caplog.at_level(logging.INFO, LOGGER):
            run(engine(model, compile="auto"), one_request())
        assert "times as fast as the model's own" in caplog.text
        assert "could not be captured" not in caplog.text

    def test_weights_that_have_moved(self, device):
        model = model_on(device)
        one = engine(model)
        before = run(one, one_request())[0]
        # memory that others may get now
        for weight in model.parameters():
            weight.data = weight.data.clone()
        others = [torch.full((2**16,), torch.nan, device=device) for _ in range(50)]
        assert_same(before, run(one, one_request())[0])
        assert len(others) == 50


# a wait that began while waits were looked for may be told of afterwards
@pytest.mark.filterwarnings("default:called a synchronizing CUDA operation")
class TestThreads:
    def test_a_graph_is_replayed_by_another_thread_after_the_first_has_ended(self, device):
        model = model_on(device)
        one = engine(model)
        expected = own_steps(model, one_request())[0]
        for _ in range(3):
            with ThreadPoolExecutor(1) as thread:
                assert_same(expected, thread.submit(run, one, one_request()).result()[0])

    def test_other_threads_use_the_device_meanwhile(self, device):
        model, other = model_on(device), model_on(device, "qwen2")
        expected = own_steps(model, *requests_of_all_kinds(), chunk=7)
        ended, failures = threading.Event(), []

        def busy():
            """What servers, health checks and other models do: allocate, launch, read, ask for the free memory."""
            try:
                with torch.inference_mode():
                    while not ended.is_set():
                        size = int(torch.randint(1, 2**20, ()))
                        assert int(torch.ones(size, device=device).sum()) == size
                        other(torch.ones(2, 5, dtype=torch.long, device=device), use_cache=False)
                        available_device_memory(device)
            except Exception as error:  # noqa: BLE001 - the test fails by it
                failures.append(error)

        threads = [threading.Thread(target=busy) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                found = run(engine(model), *requests_of_all_kinds(), chunk=7)
                for own, captured in zip(expected, found, strict=True):
                    assert_same(own, captured)
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        assert not failures

    def test_two_engines_capture_at_the_same_time(self, device):
        models = [model_on(device, family) for family in ("llama", "qwen2")]
        expected = [own_steps(model, *requests_of_all_kinds()) for model in models]
        engines = [engine(model) for model in models]
        with ThreadPoolExecutor(2) as threads:
            for found, own in zip(
                threads.map(lambda one: run(one, *requests_of_all_kinds()), engines), expected, strict=True
            ):
                for one, other in zip(own, found, strict=True):
                    assert_same(one, other)

    def test_callers_of_a_decoder(self, device):
        loaded, found = testing.tiny_model("llama"), []
        loaded.model.to(device)
        for option in (False, True):
            sampling = SamplingConfig(n=4, max_new_tokens=24, **FREE, seed=2)
            decoder = NeuronAgreementDecoder(
                loaded,
                sampling=sampling,
                config=NADConfig(chunk_size=8, selector="knn"),
                engine_options={"compile": option},
                # a batch of another size rounds otherwise
                share_batches=False,
            )
            with ThreadPoolExecutor(4) as callers:
                found.append(list(callers.map(decoder.decode, ["one", "two", "three", "four"])))
            decoder.check_health()
            decoder.close()
        for own, captured in zip(*found, strict=True):
            assert [candidate.text for candidate in own.candidates] == [one.text for one in captured.candidates]


class TestFailures:
    """Captures that fail, after which the engine and the rest of the process go on."""

    def failing(self, device, fail):
        """Return a model and its engine, in which `fail` is called while a step is captured, and only then."""
        model = model_on(device)

        def hook(*_):
            if is_capturing(device):
                fail()

        expected = own_steps(model, one_request())[0]
        model.lm_head.register_forward_pre_hook(hook)
        return engine(model, compile="auto"), expected

    def assert_everything_goes_on(self, device):
        if device.type == "cuda":
            assert torch.cuda.current_stream() == torch.cuda.default_stream()
            # which fail if torch's allocator takes the capture to go on
            torch.cuda.empty_cache()
            with pytest.raises(torch.OutOfMemoryError):
                torch.empty(2**50, dtype=torch.uint8, device=device)
        assert int(torch.ones(10, device=device).sum()) == 10
        # and another engine captures
        model = model_on(device, "qwen2")
        assert_same(own_steps(model, one_request())[0], run(engine(model), one_request())[0])

    def test_too_little_memory(self, device, caplog):
        def fail():
            if device.type == "cpu":
                raise torch.OutOfMemoryError("out of memory")
            torch.empty(2**50, dtype=torch.uint8, device=device)

        one, expected = self.failing(device, fail)
        with caplog.at_level(logging.INFO, LOGGER):
            assert_same(expected, run(one, one_request())[0])
        assert "could not be captured: OutOfMemoryError" in caplog.text
        self.assert_everything_goes_on(device)

    def test_a_call_that_cuda_does_not_permit(self, device, caplog):
        def fail():
            if device.type == "cpu":
                raise RuntimeError("operation not permitted when stream is capturing")
            torch.cuda.synchronize()

        one, expected = self.failing(device, fail)
        with caplog.at_level(logging.INFO, LOGGER):
            assert_same(expected, run(one, one_request())[0])
        assert "could not be captured" in caplog.text
        self.assert_everything_goes_on(device)

    def test_a_step_that_waits_for_the_device(self, device, caplog):
        model = model_on(device, "gpt2")
        with caplog.at_level(logging.INFO, LOGGER):
            run(engine(model, compile="auto"), one_request())
        assert "host wait" in caplog.text
        self.assert_everything_goes_on(device)


class TestMemory:
    def test_a_closed_engine_gives_its_memory_back(self, device):
        model = model_on(device)
        one = engine(model)
        run(one, one_request())
        assert one._captured.buffers.bytes_held
        one.close()
        assert not one._captured.buffers.bytes_held
        assert not one._captured.graphs
        if device.type == "cuda":
            torch.cuda.empty_cache()
            weights = sum(weight.nbytes for weight in model.parameters())
            # cuBLAS keeps its own
            assert torch.cuda.memory_allocated() < weights + 2**28

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_captures_share_the_memory_of_their_intermediate_results(self):
        device = torch.device("cuda", torch.cuda.current_device())
        graphs, source = CudaGraphs(device), torch.ones(2**24, device=device)
        target = torch.zeros_like(source)
        held, replays = [], []

        def step(factor):
            target.copy_((source * factor + 1) * 2)

        for factor in (2.0, 3.0, 4.0, 5.0):
            replays.append(graphs.capture(partial(step, factor)))
            held.append(torch.cuda.memory_reserved(device))
        assert held[-1] == held[0]
        for factor, replay in zip((2.0, 3.0, 4.0, 5.0), replays, strict=True):
            replay()
            graphs.synchronize()
            assert (target == 2 * (factor + 1)).all()


@TWO_GPUS
class TestTwoDevices:
    def test_a_model_on_the_second_one(self):
        assert torch.cuda.current_device() == 0
        models = [model_on(torch.device("cuda", index)) for index in (0, 1)]
        groups = [run(engine(model), *requests_of_all_kinds(), chunk=7) for model in models]
        for one, other in zip(*groups, strict=True):
            assert_same(one, other)
        assert torch.cuda.current_device() == 0

    def test_both_at_the_same_time(self):
        models = [model_on(torch.device("cuda", index)) for index in (0, 1)]
        expected = own_steps(models[0], *requests_of_all_kinds())
        with ThreadPoolExecutor(2) as threads:
            for found in threads.map(lambda model: run(engine(model), *requests_of_all_kinds()), models):
                for one, other in zip(expected, found, strict=True):
                    assert_same(one, other)
