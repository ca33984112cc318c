"""Capture functions as CUDA graphs and replay them."""

from __future__ import annotations

from collections.abc import Callable
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
        self._pool = torch.cuda.graph_pool_handle()
        # one for all captures: memory of the pool is used again on the same stream alone, and so is cuBLAS' own
        self._stream: Any = None

    def capture(self, function: Callable[[], object]) -> Callable[[], None]:
        """See `Graphs.capture`.

        Raises:
            RuntimeError: The function does what cannot be captured, such as waiting for the device. The device and
                torch's streams are as before; other graphs of this object must not be used afterwards.
        """
        with _CAPTURING, torch.cuda.device(self._device):
            current = self._cuda.current_stream()
            self._stream = self._stream or self._cuda.Stream()
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
        inference = torch.is_inference_mode_enabled()
        try:
            # what torch itself keeps for a graph has to serve graphs of other code too, which may be no inference
            with torch.inference_mode(False), self._capture_into(graph, self._pool), torch.inference_mode(inference):
                function()
        except BaseException:
            self._recover()
            raise
        return graph

    def _capture_into(self, graph: torch.cuda.CUDAGraph, pool: Any) -> Any:
        # other threads of the process may allocate memory meanwhile
        return torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local")

    def _recover(self) -> None:
        """Let torch know that a capture has ended, which torch itself does not notice where CUDA has broken it off."""
        # 1. the allocator would fail whenever it is to free memory, until the process ends
        if not self._end_allocations(self._pool):
            return
        # 2. before torch 2.12, random numbers and the replays of all other graphs would fail until a capture ends well
        pool = torch.cuda.graph_pool_handle()
        try:
            with torch.inference_mode(False), self._capture_into(torch.cuda.CUDAGraph(), pool):
                torch.zeros(1, device=self._device)
        except RuntimeError:
            self._end_allocations(pool)

    @staticmethod
    def _end_allocations(pool: Any) -> bool:
        """Tell torch's allocator that the capture into a pool has ended; return whether the allocator did not know."""
        of_torch: Any = torch._C
        device = torch.cuda.current_device()
        # as torch called the function before 2.8
        end = getattr(of_torch, "_cuda_endAllocateToPool", None) or of_torch._cuda_endAllocateCurrentStreamToPool
        try:
            end(device, pool)
        except RuntimeError:
            return False
        of_torch._cuda_releasePool(device, pool)
        return True

    def synchronize(self) -> None:
        """See `Graphs.synchronize`; waits for the current stream alone, as other threads may be capturing."""
        self._cuda.current_stream(self._device).synchronize()


def graphs_for(device: torch.device) -> Graphs | None:
    """Return what captures graphs on a device; None if nothing does."""
    return CudaGraphs(device) if device.type == "cuda" else None
