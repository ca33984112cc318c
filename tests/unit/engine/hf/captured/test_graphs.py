"""The graphs of CUDA, and those that take their place in the other tests."""

import warnings

import pytest
import torch

from nad_agents.engine.hf.captured.graphs import CudaGraphs, graphs_for
from nad_agents.engine.hf.captured.host_waits import without_waiting
from tests.recorded_graphs import RecordedGraphs


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda():
    device = torch.device("cuda")
    assert isinstance(graphs_for(device), CudaGraphs)
    check(CudaGraphs(device), device)


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

    @pytest.mark.parametrize(
        ("message", "refused"),
        [("called a synchronizing CUDA operation", True), ("a kernel is deprecated", False), (None, False)],
    )
    def test_where_cuda_says_that_the_host_waits(self, monkeypatch, message, refused):
        modes = [0]
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
        monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

        def run():
            with without_waiting():
                if message:
                    warnings.warn(message, stacklevel=1)

        if refused:
            with pytest.raises(RuntimeError, match="the host waits for the device: called a synchronizing"):
                run()
        else:
            run()
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
