"""Count what decoding steps make an accelerator do, on a machine without one: operations, copies, synchronisations.

Operations are torch's own, below all Python: each is one kernel or more. Synchronisations are the calls for which the
host waits until the device has done everything before them, and copies from pageable host memory, which wait as well.
"""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from nad_agents.engine.hf.captured.host_waits import BasicOperationMode, selects_by_truth_values

_NO_KERNEL = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "alias", "lift_fresh"}
_NO_KERNEL |= {"_unsafe_view", "_reshape_alias", "set_", "resize_", "_local_scalar_dense", "sym_size", "is_same_size"}
_COPIES = {"copy_", "_to_copy", "clone", "cat", "stack"}
_WAITING = {"item", "tolist", "cpu", "nonzero", "masked_select", "unique", "__bool__", "__int__", "__float__"}
_WAITING |= {"__index__", "argwhere"}


class StepTrace:
    """Counts while the block runs.

    Attributes:
        operations: Number of operations that launch a kernel, by name.
        synchronisations: Number of calls for which the host waits, by name and place.
    """

    def __init__(self) -> None:
        self.operations: Counter[str] = Counter()
        self.synchronisations: Counter[str] = Counter()
        self._stack = ExitStack()

    @property
    def copies(self) -> int:
        """Number of operations that only move numbers."""
        return sum(count for name, count in self.operations.items() if name in _COPIES)

    def __enter__(self) -> StepTrace:
        self._stack.enter_context(_Functions(self.synchronisations))
        self._stack.enter_context(_Operations(self.operations))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


class _Operations(BasicOperationMode):
    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self._counts = counts

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = func.overloadpacket.__name__
        if not func.is_view and name not in _NO_KERNEL:
            self._counts[name] += 1
        return func(*args, **kwargs)


class _Functions(TorchFunctionMode):
    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self._counts = counts

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _WAITING or _uploads(name, args, kwargs) or _selects(name, args):
            self._counts[f"{name} at {_place()}"] += 1
        return func(*args, **kwargs)


def _uploads(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call moves numbers from the host to a device."""
    if name in {"tensor", "as_tensor"}:
        return kwargs.get("device") is not None
    if name != "to" or not any(isinstance(one, torch.device) for one in (*args[1:], *kwargs.values())):
        return False
    # a model's own tensors are there already
    return "nad_agents/" in _frame().f_code.co_filename


def _selects(name: str, args: tuple[Any, ...]) -> bool:
    """Whether a call has a result whose size depends on numbers on the device."""
    if name == "where":
        return len(args) == 1
    return selects_by_truth_values(name, args)


def _frame() -> FrameType:
    """The nearest frame outside torch and this module."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (frame.f_code.co_filename == __file__ or "/torch/" in frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def _place() -> str:
    frame = _frame()
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
