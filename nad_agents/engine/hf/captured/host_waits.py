"""Find out whether a step of decoding makes the host wait for the device, as nothing in a CUDA graph may.

A capture that CUDA breaks off leaves torch in a state that has to be mended (see `CudaGraphs`). So a function first
runs within `without_waiting`, which raises before anything is captured.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["BasicOperationMode", "selects_by_truth_values", "without_waiting"]

_READS = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "argwhere", "lift_fresh"}
_READS |= {"_pin_memory", "unique", "_unique2", "unique_dim", "unique_consecutive", "bincount"}
"""Operations whose result, or its size, the host has to know, or that begin with numbers of the host."""

_MOVES = {"copy_", "_to_copy"}
"""Operations that may move numbers between the host and the device."""

_WAITING = "called a synchronizing CUDA operation"
"""What torch's debug mode says where the host waits for the device."""

_ANNOUNCEMENT = "Synchronization debug mode is a prototype feature"
"""What torch says when the mode is set for the first time in a process."""


@contextmanager
def without_waiting() -> Iterator[None]:
    """Let what the block runs on this thread raise where the host would wait for the device.

    What torch's operations show is found on any device; within their kernels, CUDA itself says where the host waits. It
    says so in every thread of the process: what other threads wait for meanwhile is not shown.

    Raises:
        RuntimeError: An operation of the block returns numbers to the host, moves some between the host and the device,
            or has a result whose size depends on numbers on the device.
    """
    with _synchronizations(), _Indices(), _Operations():  # type: ignore[no-untyped-call] # as below
        yield


@contextmanager
def _synchronizations() -> Iterator[None]:
    if not torch.cuda.is_available():
        yield
        return
    thread, waits = threading.get_ident(), 0
    shown = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        nonlocal waits
        if _WAITING not in str(message):
            shown(message, category, filename, lineno, file, line)
        # the mode holds for the whole process, whose other threads may wait
        elif threading.get_ident() == thread:
            waits += 1

    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=_WAITING)
        warnings.filterwarnings("ignore", message=_ANNOUNCEMENT)
        warnings.showwarning = show
        # an error instead of a warning would meet other threads, too
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)
            warnings.showwarning = shown
    if waits:
        raise RuntimeError(f"the host waits for the device: {_WAITING}")


class BasicOperationMode(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves it untyped
    """Runs what is called within it as torch's basic operations, of which each goes through `run`."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # in inference mode, functions that are made of others, such as `to` and `reshape`, come whole
        with self:
            parts = func.decompose(*args, **kwargs)
        return self.run(func, args, kwargs) if parts is NotImplemented else parts

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation and return its result."""
        raise NotImplementedError


def selects_by_truth_values(name: str, args: tuple[Any, ...]) -> bool:
    """Return whether a call of a torch function picks elements by truth values, which the host then has to count.

    Args:
        name: The function's name.
        args: Its positional arguments.
    """
    indices = args[1] if name in {"__getitem__", "__setitem__"} and len(args) > 1 else ()
    return any(one.dtype in (torch.bool, torch.uint8) for one in _tensors(indices))


class _Operations(BasicOperationMode):  # type: ignore[no-untyped-call] # as above
    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = func.overloadpacket.__name__
        unknown_size = name == "repeat_interleave" and len(args) == 1 and kwargs.get("output_size") is None
        if name in _READS or unknown_size:
            raise RuntimeError(f"{func} makes the host wait for the device")
        result = func(*args, **kwargs)
        if name in _MOVES and len({one.device for one in _tensors((args, kwargs, result))}) > 1:
            raise RuntimeError(f"{func} moves numbers between the host and the device")
        return result


class _Indices(TorchFunctionMode):
    """Sees what torch turns into numbers of selected elements below all Python."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if selects_by_truth_values(getattr(func, "__name__", ""), args):
            raise RuntimeError("an index by truth values makes the host wait for the device")
        return func(*args, **(kwargs or {}))


def _tensors(values: Any) -> list[torch.Tensor]:
    return [one for one in tree_leaves(values) if isinstance(one, torch.Tensor)]
