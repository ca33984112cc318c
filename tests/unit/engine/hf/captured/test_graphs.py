"""The graphs of CUDA, and those that take their place in the other tests."""

import warnings
from contextlib import contextmanager
from threading import Event, Thread

import pytest
import torch

from nad_agents.engine.hf.captured.graphs import CudaGraphs, graphs_for
from nad_agents.engine.hf.captured.host_waits import without_waiting
from tests.recorded_graphs import RecordedGraphs

WAITING = "called a synchronizing CUDA operation"


def check(graphs, device):
    given, result = torch.zeros(3, device=device), torch.zeros(3, device=device)
    calls = []

    def step():
        calls.append(len(calls))
        result.copy_(given * 2 + 1)

    replay = graphs.capture(step)
    made = len(calls)
    for number in (1.0, 5.0):
        given.fill_(number)
        replay()
        graphs.synchronize()
        assert result.tolist() == [2 * number + 1] * 3
    assert len(calls) == made


def test_a_cpu_has_no_graphs():
    assert graphs_for(torch.device("cpu")) is None
    assert graphs_for(torch.device("mps")) is None


class FakeCuda:
    """Writes down what is called in `torch.cuda`, which computes nothing; it shows the order of calls and no more.

    Attributes:
        calls: What was called.
        current: The current stream of every thread.
        broken: Number of captures that are broken off, as by calls of another thread that no capture survives.
    """

    def __init__(self, monkeypatch):
        self.calls, self.current, self.broken = [], "default", 0
        self.streams = self.pools = 0
        self.allocating = set()
        for name in ("Stream", "current_stream", "stream", "device", "graph_pool_handle", "CUDAGraph", "graph"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
        monkeypatch.setattr(torch, "zeros", lambda *_, device: self.calls.append(f"zeros on {device}"))
        monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", self.end_allocations)
        monkeypatch.setattr(torch._C, "_cuda_releasePool", lambda *pool: self.calls.append(("release", *pool)))

    def Stream(self):
        self.streams += 1
        return FakeStream(f"stream {self.streams}", self.calls)

    def current_stream(self, device=None):
        return FakeStream(self.current, self.calls)

    @contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream.name
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def device(self, device):
        self.calls.append(f"on {device}")
        yield

    def graph_pool_handle(self):
        self.pools += 1
        return f"pool {self.pools}"

    class CUDAGraph:
        def replay(self):
            """Do nothing."""

    @contextmanager
    def graph(self, graph, *, pool, stream, capture_error_mode):
        assert capture_error_mode == "thread_local"
        # as torch's own does, this leaves its stream and the allocator's state only where the capture ends well
        before, self.current = self.current, stream.name
        self.allocating.add(pool)
        self.calls.append(f"capture on {self.current} into {pool}")
        # what torch keeps for its random numbers is made here
        assert not torch.is_inference_mode_enabled()
        try:
            yield
        finally:
            if self.broken:
                self.broken -= 1
                raise RuntimeError("operation failed due to a previous error during capture")
            self.allocating.remove(pool)
            self.current = before

    def end_allocations(self, device, pool):
        if pool not in self.allocating:
            raise RuntimeError("not currently recording to mempool_id")
        self.allocating.remove(pool)
        self.calls.append(("end", device, pool))


class FakeStream:
    def __init__(self, name, calls):
        self.name, self._calls = name, calls

    def wait_stream(self, other):
        self._calls.append(f"{self.name} waits for {other.name}")

    def synchronize(self):
        self._calls.append(f"host waits for {self.name}")


class TestCallsOfCuda:
    """In which order `CudaGraphs` calls CUDA."""

    @pytest.fixture
    def cuda(self, monkeypatch):
        return FakeCuda(monkeypatch)

    def step(self, cuda):
        return lambda: cuda.calls.append(f"step on {cuda.current}")

    def test_captures_share_a_stream_that_waits_and_is_waited_for(self, cuda):
        graphs = CudaGraphs(torch.device("cuda", 1))
        cuda.calls.clear()
        for _ in range(2):
            graphs.capture(self.step(cuda))
        captured = [
            "on cuda:1",
            "stream 1 waits for default",
            "step on stream 1",
            "step on stream 1",
            "capture on stream 1 into pool 1",
            "step on stream 1",
            "default waits for stream 1",
        ]
        assert cuda.calls == 2 * captured
        graphs.synchronize()
        # and not for the whole device, on which another thread may be capturing
        assert cuda.calls[-1] == "host waits for default"

    def test_the_step_is_inference_if_the_caller_is(self, cuda):
        modes = []
        for inference in (True, False):
            with torch.inference_mode(inference):
                CudaGraphs(torch.device("cuda", 1)).capture(lambda: modes.append(torch.is_inference_mode_enabled()))
        assert modes == [True] * 3 + [False] * 3

    @pytest.mark.parametrize("broken", [1, 2])
    def test_a_capture_that_is_broken_off_leaves_no_trace(self, cuda, broken):
        graphs = CudaGraphs(torch.device("cuda", 1))
        cuda.broken = broken
        with pytest.raises(RuntimeError, match="previous error during capture"):
            graphs.capture(self.step(cuda))
        recovered = [
            ("end", 1, "pool 1"),
            ("release", 1, "pool 1"),
            # which ends what the broken one has begun
            "capture on stream 1 into pool 2",
            "zeros on cuda:1",
        ]
        if broken == 2:
            recovered += [("end", 1, "pool 2"), ("release", 1, "pool 2")]
        assert cuda.calls[-len(recovered) - 1 :] == [*recovered, "default waits for stream 1"]
        assert cuda.current == "default"
        assert not cuda.allocating

    @pytest.mark.parametrize("fails_in", [1, 2, 3])
    def test_a_step_that_fails_leaves_no_trace(self, cuda, fails_in):
        runs = []

        def step():
            runs.append(cuda.current)
            if len(runs) == fails_in:
                raise torch.OutOfMemoryError

        with pytest.raises(torch.OutOfMemoryError):
            CudaGraphs(torch.device("cuda", 1)).capture(step)
        assert runs == ["stream 1"] * fails_in
        assert cuda.calls[-1] == "default waits for stream 1"
        assert cuda.current == "default"
        assert not cuda.allocating

    def test_captures_of_two_threads_take_turns(self, cuda):
        first, second = CudaGraphs(torch.device("cuda", 1)), CudaGraphs(torch.device("cuda", 1))
        order, inside = [], Event()
        done = Event()

        def slow():
            inside.set()
            # time for the other thread to come between
            done.wait(0.03)
            order.append("first")

        def other():
            inside.wait(10)
            second.capture(lambda: order.append("second"))
            done.set()

        thread = Thread(target=other)
        thread.start()
        first.capture(slow)
        thread.join()
        assert order == ["first"] * 3 + ["second"] * 3


class TestWithoutWaiting:
    @pytest.mark.parametrize("inference", [False, True])
    def test_numbers_that_move_between_host_and_device(self, inference):
        stays = torch.ones(3, device="meta")
        with torch.inference_mode(inference), without_waiting():
            assert (stays.to(torch.float16) + 1).to("meta").device.type == "meta"
            for move in (lambda: torch.ones(3).to("meta"), lambda: stays.copy_(torch.ones(3))):
                with pytest.raises(RuntimeError, match="moves numbers between the host and the device"):
                    move()

    def test_afterwards_the_host_may_wait_again(self):
        with pytest.raises(RuntimeError, match="makes the host wait"), without_waiting():
            torch.ones(1).item()
        assert torch.ones(1).item() == 1

    @pytest.fixture
    def modes(self, monkeypatch):
        """The debug modes that are set, on a machine that seems to have CUDA."""
        modes = [0]

        def set_mode(mode):
            modes.append(mode)
            if len(modes) == 2:
                # as torch does once in a process
                announcement = "Synchronization debug mode is a prototype feature and does not yet detect all "
                warnings.warn(f"{announcement}synchronizing operations", stacklevel=1)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
        monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)
        return modes

    def test_where_cuda_says_that_the_host_waits(self, modes):
        with (
            pytest.raises(RuntimeError, match="the host waits for the device: called a synchronizing"),
            without_waiting(),
        ):
            warnings.warn(WAITING, stacklevel=1)
        assert modes == [0, "warn", 0]

    def test_what_torch_says_of_the_mode_itself_is_no_wait(self, modes):
        shown = warnings.showwarning
        with without_waiting():
            torch.ones(1)
        assert modes == [0, "warn", 0]
        assert warnings.showwarning is shown

    def test_other_warnings_are_shown_as_ever(self, modes):
        with pytest.warns(UserWarning, match="a kernel is deprecated"), without_waiting():
            warnings.warn("a kernel is deprecated", stacklevel=1)
        assert modes == [0, "warn", 0]

    def test_other_threads_may_wait(self, modes):
        other = Thread(target=warnings.warn, args=(WAITING,))
        with without_waiting():
            other.start()
            other.join()
        assert modes == [0, "warn", 0]


class TestRecordedGraphs:
    def test_operations_are_repeated(self):
        check(RecordedGraphs(), torch.device("cpu"))

    def test_a_number_of_python_stays_as_it_was(self):
        total, step = torch.zeros(()), iter(range(9))
        replay = RecordedGraphs().capture(lambda: total.add_(next(step)))
        total.zero_()
        replay()
        replay()
        # the capture was the second call
        assert total.item() == 2

    @pytest.mark.parametrize(
        "read",
        [
            lambda x: x.sum().item(),
            lambda x: x.tolist(),
            lambda x: bool(x[0]),
            lambda x: x.nonzero(),
            lambda x: x[x > 0],
            lambda x: torch.tensor([1.0]) + x,
            lambda x: x.cpu(),
            lambda x: torch.bincount(x.long()),
            lambda x: x.repeat_interleave(x.long()),
            lambda x: x.unique(),
            lambda x: torch.where(x > 0),
            lambda x: range(x[0].long()),
        ],
    )
    @pytest.mark.parametrize("inference", [False, True])
    def test_what_the_host_reads_cannot_be_captured(self, read, inference):
        with (
            torch.inference_mode(inference),
            pytest.raises(RuntimeError, match=r"the host wait|between the host|not permitted when"),
        ):
            RecordedGraphs().capture(lambda: read(torch.ones(3)))
