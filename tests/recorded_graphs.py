"""What a CUDA graph does, on a CPU: record torch's operations once, then repeat them on the same tensors.

No Python of the recorded function runs again. What the function reads on the host, or bakes into an operation as a
number, stays as it was when it was recorded, as in a CUDA graph; what cannot be captured raises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from nad_agents.engine.hf.captured.host_waits import without_waiting
from tests.step_trace import StepTrace


class RecordedGraphs:
    """Like `nad_agents.engine.hf.captured.graphs.CudaGraphs`.

    Attributes:
        captured: Number of functions that were captured.
        replayed: Number of replays of all of them.
        operations: Number of operations of the last captured function.
    """

    def __init__(self) -> None:
        self.captured = self.replayed = self.operations = 0

    def capture(self, function: Callable[[], object]) -> Callable[[], None]:
        with without_waiting():
            function()
        calls: list[Any] = []
        with _Recording(calls), StepTrace() as trace:
            function()
        if trace.synchronisations:
            raise RuntimeError(f"not permitted when stream is capturing: {sorted(trace.synchronisations)}")
        self.captured, self.operations = self.captured + 1, trace.operations.total()

        def replay() -> None:
            self.replayed += 1
            _repeat(calls)

        return replay

    def synchronize(self) -> None:
        """Do nothing, as a CPU has done everything."""


class _Recording(TorchDispatchMode):
    def __init__(self, calls: list[Any]) -> None:
        super().__init__()
        self._calls = calls

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        # which keeps the tensors, so that no other tensor gets the identity of one of them
        self._calls.append((func, args, kwargs, result))
        return result


def _repeat(calls: list[Any]) -> None:
    now: dict[int, Any] = {}

    def current(value: Any) -> Any:
        return now.get(id(value), value) if isinstance(value, torch.Tensor) else value

    for func, args, kwargs, result in calls:
        repeated = func(*tree_map(current, args), **tree_map(current, kwargs))
        for one, other in zip(tree_flatten(result)[0], tree_flatten(repeated)[0], strict=True):
            if isinstance(one, torch.Tensor):
                now[id(one)] = other
