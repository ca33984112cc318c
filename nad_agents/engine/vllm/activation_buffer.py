"""A persistent buffer inside the worker, into which the model's forward pass copies feed-forward activations.

Only the rows from which a token is drawn are copied: one per request and step, at the positions that emit a token. The
copy is a custom operator, so it is part of a compiled model and of a captured CUDA graph. Everything that depends on
the request (score, top-k, layers) is computed outside the model, from the copied rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import pad

from nad_agents.engine.vllm.feed_forwards import DownProjection

__all__ = ["ActivationBuffer"]


class _Switch:
    """Whether any request of the running step records; while none does, the operator returns at once."""

    on = False


def _copy_rows(activations: torch.Tensor, rows: torch.Tensor, slot: torch.Tensor) -> None:
    """Copy some rows of a layer's activations [tokens, width] into the layer's slot [max rows, width]."""
    capturing = activations.is_cuda and torch.cuda.is_current_stream_capturing()
    if not (_Switch.on or capturing):
        return
    flat = activations.reshape(-1, activations.shape[-1])
    count = min(len(flat), len(slot))
    torch.index_select(flat, 0, rows[:count], out=slot[:count])


# without `torch.library.custom_op`, whose wrappers take longer than the copy of a layer
_LIBRARY = torch.library.Library("nad_agents", "DEF")  # type: ignore[no-untyped-call]
_LIBRARY.define("copy_rows(Tensor activations, Tensor rows, Tensor(a!) slot) -> ()")  # type: ignore[no-untyped-call]
for _key in ("CPU", "CUDA", "XPU"):
    _LIBRARY.impl("copy_rows", _copy_rows, _key)  # type: ignore[no-untyped-call]
# tells the compiler that the operator returns nothing
torch.library.register_fake("nad_agents::copy_rows", lambda *_: None, lib=_LIBRARY)


def _copy_before(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    torch.ops.nad_agents.copy_rows(inputs[0], module.nad_rows, module.nad_slot)


class ActivationBuffer:
    """One slot per layer, which every forward pass overwrites while recording is switched on.

    Args:
        projections: The model's down projections; each gets a hook that copies its input.
        max_rows: Greatest number of rows from which a token is drawn in one step.
        dtype: Dtype of the activations.
        device: Device of the activations.

    Attributes:
        slots: The copied activations, [max_rows, width of this worker's part of the layer] per layer.
    """

    def __init__(
        self, projections: Sequence[DownProjection], *, max_rows: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.slots = [torch.zeros(max_rows, one.local_width, dtype=dtype, device=device) for one in projections]
        self._rows = torch.zeros(max_rows, dtype=torch.int64, device=device)
        for projection, slot in zip(projections, self.slots, strict=True):
            # registered as buffers of the module, so that the compiler treats them as inputs of the graph
            projection.module.register_buffer("nad_rows", self._rows, persistent=False)
            projection.module.register_buffer("nad_slot", slot, persistent=False)
            projection.module.register_forward_pre_hook(_copy_before)

    def activations(self, rows: torch.Tensor | slice, first: int, end: int) -> torch.Tensor:
        """Return the copied activations of some rows, with zeros after those of a layer that has fewer.

        Args:
            rows: Indices [R] of the rows in the slots, or the slice that they form.
            first: Position of the first layer.
            end: Position after the last layer.

        Returns:
            [layers, R, width of the widest of them].
        """
        chosen = [slot[rows] for slot in self.slots[first:end]]
        width = max(one.shape[-1] for one in chosen)
        return torch.stack([one if one.shape[-1] == width else pad(one, (0, width - one.shape[-1])) for one in chosen])

    def select(self, rows: torch.Tensor | None) -> None:
        """Set the rows that the next forward pass copies.

        Args:
            rows: Indices [R] of the rows among the step's tokens; None switches the copies off.
        """
        _Switch.on = rows is not None
        if rows is not None:
            # a padded graph copies more rows than there are requests, so all rows need a valid index
            self._rows.zero_()
            self._rows[: len(rows)].copy_(rows)
