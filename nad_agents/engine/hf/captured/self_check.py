"""Compare what a captured step computes with what the model computes, and how long both take.

Both read the same few tokens at the same positions; nothing of it is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

__all__ = ["CHECKED_STEPS", "LEAST_GAIN", "CheckedSteps", "agree"]

CHECKED_STEPS = 4
"""Steps that are compared. From the second on, a step reads keys that an earlier one has stored, and a value that the
capture has frozen is wrong."""

LEAST_GAIN = 1.2
"""How many times as fast a captured step has to be."""

_FLOAT32_ERROR = 2e-4
"""Greatest error of a row in 32 bits, as a share of the row's size."""

_ROUNDINGS = 8
"""The same in 16 bits for half of the rows, in units of the dtype's precision: layers add up their roundings."""

_RIGHT_AT_ALL = 0.5
"""The same for every row in 16 bits: two close scores of experts may change places, but the results of other inputs
differ by more than 1."""


@dataclass(frozen=True)
class CheckedSteps:
    """What some steps gave.

    Attributes:
        logits: float32 [steps, rows, vocabulary].
        activations: [rows, width], those of all layers without experts in the last step; width 0 if there are none.
        seconds: What the steps took.
    """

    logits: torch.Tensor
    activations: torch.Tensor
    seconds: float

    @classmethod
    def take(
        cls,
        steps: int,
        step: Callable[[], torch.Tensor],
        activations: Callable[[], torch.Tensor],
        synchronize: Callable[[], None],
    ) -> CheckedSteps:
        """Take some steps.

        Args:
            steps: Their number.
            step: Takes a step and returns its logits, which it may overwrite later.
            activations: Returns the activations of the last step.
            synchronize: Waits for the device.
        """
        synchronize()
        started = time.perf_counter()
        logits = [step().clone() for _ in range(steps)]
        synchronize()
        seconds = time.perf_counter() - started
        return cls(torch.stack(logits), activations().float(), seconds)


def agree(one: torch.Tensor, other: torch.Tensor, dtype: torch.dtype) -> bool:
    """Return whether two results are the same up to rounding; False if anything is not a number.

    Args:
        one: [..., width].
        other: The same by other kernels.
        dtype: What the model computes in.
    """
    if not one.numel():
        return True
    one, other = one.float().flatten(0, -2), other.float().flatten(0, -2)
    smallest = torch.finfo(torch.float32).tiny
    errors = (one - other).norm(dim=-1) / other.norm(dim=-1).clamp_min(smallest)
    if dtype.itemsize >= 4:
        return bool((errors <= _FLOAT32_ERROR).all())
    usual = _ROUNDINGS * torch.finfo(dtype).eps
    return bool((errors.nanmedian() <= usual) & (errors <= max(usual, _RIGHT_AT_ALL)).all())
