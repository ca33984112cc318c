"""Capture functions as CUDA graphs and replay them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import torch

from nad_agents.engine.hf.captured.host_waits import without_waiting
from nad_agents.fork import ForkSafeLock

__all__ = ["CudaGraphs", "Graphs", "graphs_for"]

_CAPTURING = ForkSafeLock()
"""Captures of one process take turns: before a capture, torch waits for the whole device and frees cached memory, which
would break the capture of another thread; and whether the host waits is asked of the whole process."""


class Graphs(Protocol):
    """Records the operations of functions that work on static tensors."""

    def capture(self, function: Callable[[], object]) -> Callable[[], None]:
        """Record a function's operations, running it as often as that takes, and return a function that repeats them.

        The function must do the same operations whenever it is called, and depend on nothing but tensors whose
        addresses stay the same.
        """
        ...

    def synchronize(self) -> None:
        """Wait until the device has done everything that this thread has asked of it."""
        ...


class CudaGraphs:
    """CUDA graphs that share the memory of their intermediate results; no two of them may run at the same time.

    Args:
        device: A CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # torch leaves its streams untyped
        self._cuda: Any = torch.cuda
        with torch.cuda.device(device):
            self._pool = torch.cuda.graph_pool_handle()
            # one for all captures: memory of the pool is used again on the same stream alone, and so is cuBLAS' own
            self._stream = self._cuda.Stream()

    def capture(self, function: Callable[[], object]) -> Callable[[], None]:
        """See `Graphs.capture`.

        Raises:
            RuntimeError: The function does what cannot be captured, such as waiting for the device. The device and
                torch's streams are as before; other graphs of this object must not be used afterwards.
        """
        with _CAPTURING, torch.cuda.device(self._device):
            current = self._cuda.current_stream()
            self._stream.wait_stream(current)
            try:
                # torch's context of a capture does not leave its stream where the capture has failed; this one does
                with self._cuda.stream(self._stream):
                    # libraries allocate their workspaces and choose their kernels
                    function()
                    with without_waiting():
                        function()
                    graph = self._captured(function)
            finally:
                current.wait_stream(self._stream)
        replay: Callable[[], None] = graph.replay
        return replay

    def _captured(self, function: Callable[[], object]) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        try:
            # other threads of the process may allocate memory meanwhile
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                function()
        except BaseException:
            self._end_allocations()
            raise
        return graph

    def _end_allocations(self) -> None:
        """Tell torch's allocator that a capture has ended, as torch itself does not where CUDA has broken it off.

        The allocator would fail whenever it is to free memory, until the process ends.
        """
        of_torch: Any = torch._C
        device = torch.cuda.current_device()
        # as torch called the function before 2.8
        end = getattr(of_torch, "_cuda_endAllocateToPool", None) or of_torch._cuda_endAllocateCurrentStreamToPool
        with suppress(RuntimeError):  # the allocator knows
            end(device, self._pool)
            of_torch._cuda_releasePool(device, self._pool)

    def synchronize(self) -> None:
        """See `Graphs.synchronize`; waits for the current stream alone, as other threads may be capturing."""
        self._cuda.current_stream(self._device).synchronize()


def graphs_for(device: torch.device) -> Graphs | None:
    """Return what captures graphs on a device; None if nothing does."""
    return CudaGraphs(device) if device.type == "cuda" else None
