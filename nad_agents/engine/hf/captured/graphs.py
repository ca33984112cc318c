"""Capture functions as CUDA graphs and replay them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from nad_agents.engine.hf.captured.host_waits import without_waiting

__all__ = ["CudaGraphs", "Graphs", "graphs_for"]


class Graphs(Protocol):
    """Records the operations of functions that work on static tensors."""

    def capture(self, function: Callable[[], object]) -> Callable[[], None]:
        """Record a function's operations, running it as often as that takes, and return a function that repeats them.

        The function must do the same operations whenever it is called, and depend on nothing but tensors whose
        addresses stay the same.
        """
        ...

    def synchronize(self) -> None:
        """Wait until the device has done everything."""
        ...


class CudaGraphs:
    """CUDA graphs that share the memory of their intermediate results; no two of them may run at the same time.

    Args:
        device: A CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def capture(self, function: Callable[[], object]) -> Callable[[], None]:
        """See `Graphs.capture`.

        Raises:
            RuntimeError: The function does what cannot be captured, such as waiting for the device.
        """
        # torch leaves its streams untyped
        cuda: Any = torch.cuda
        with torch.cuda.device(self._device):
            stream, current = cuda.Stream(), cuda.current_stream()
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                # libraries allocate their workspaces and choose their kernels
                function()
                with without_waiting():
                    function()
            current.wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # other threads of the process may allocate memory meanwhile
            with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                function()
        replay: Callable[[], None] = graph.replay
        return replay

    def synchronize(self) -> None:
        """See `Graphs.synchronize`."""
        torch.cuda.synchronize(self._device)


def graphs_for(device: torch.device) -> Graphs | None:
    """Return what captures graphs on a device; None if nothing does."""
    return CudaGraphs(device) if device.type == "cuda" else None
