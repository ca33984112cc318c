"""Copy the feed-forward activations of decoding steps out of a model while it runs.

A hook on every down projection, and a recording experts implementation for routed experts, copy the activations into
one preallocated buffer with one slot per step. They do nothing else: no top-k, and no Python code per row.

The buffer has steps * layers * rows * width elements of the model's dtype. The width of a mixture of experts is that of
the k experts of one token, not that of all experts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import nn

from nad_agents.exceptions import RecordingError
from nad_agents.fork import call_in_forked_child
from nad_agents.neurons.architectures import FeedForward, find_feed_forwards
from nad_agents.neurons.experts import RECORDING_EXPERTS, SwitchedExperts, Watcher

__all__ = ["ActivationTap", "LayerActivations", "empty_step"]


@dataclass(frozen=True)
class LayerActivations:
    """The activations of one layer in some decoding steps.

    Attributes:
        values: [steps, rows, width], the activations of the token's k experts in order, followed by those of the dense
            block.
        experts: int64 [steps, rows, k], the numbers of these experts; None without routed experts.
        weights: float32 [steps, rows, parts], the weights in the layer's output of the experts, followed by that of the
            dense block if there is one; None if no weight depends on the token.
    """

    values: torch.Tensor
    experts: torch.Tensor | None = None
    weights: torch.Tensor | None = None

    def steps(self, end: int) -> LayerActivations:
        """Return the first `end` steps."""
        return self._each(lambda tensor: tensor[:end])

    def rows(self, rows: slice) -> LayerActivations:
        """Return some of the rows."""
        return self._each(lambda tensor: tensor[:, rows])

    def _each(self, part: Callable[[torch.Tensor], torch.Tensor]) -> LayerActivations:
        experts = part(self.experts) if self.experts is not None else None
        weights = part(self.weights) if self.weights is not None else None
        return LayerActivations(part(self.values), experts, weights)


class ActivationTap:
    """Copies the feed-forward activations of decoding steps into a buffer while it is open.

    Use the tap as a context manager, any number of times: the entry registers the hooks and switches the experts
    implementation; the exit removes the hooks and restores the implementation, so the model is exactly as before.
    Between `open` and the exit, every forward pass with one position per row fills one step. The buffer's memory is
    kept between uses until `free`.

    Args:
        model: The model to tap.
        blocks: The neurons of the model's layers; None searches the model for them.

    Attributes:
        blocks: See above.
        first_layer: Position in `blocks` of the first layer that is copied.
    """

    def __init__(self, model: nn.Module, blocks: Sequence[FeedForward] | None = None) -> None:
        self.blocks = tuple(blocks if blocks is not None else find_feed_forwards(model))
        self._model: Any = model
        self._installed = ExitStack()
        self._entered = False
        self._memory = torch.empty(0)
        self._layers: list[LayerActivations] = []
        # by position, so that the hook of a layer has as little to do as possible; empty where nothing is copied
        self._dense_slots: list[tuple[torch.Tensor, ...]] = [()] * len(self.blocks)
        self.first_layer = 0
        self._step = 0
        self._copies = self._copies_per_step = 0
        # for each part of the activations, the slots of every layer by step; made when they are first needed
        self._slots: tuple[list[tuple[torch.Tensor, ...]], ...] | None = None
        self._armed = False
        # in a forked child the thread that would leave the context does not exist
        call_in_forked_child(self._close)

    def __enter__(self) -> ActivationTap:
        """Register the hooks, and switch the experts implementation if there are routed experts."""
        for position, block in enumerate(self.blocks):
            if block.dense is not None:
                handles: list[Any] = [block.dense.down.register_forward_pre_hook(self._copy_dense(position))]
                if block.dense.gate is not None:
                    handles.append(block.dense.gate.register_forward_hook(self._copy_gate(position, block.dense.scale)))
            else:
                handles = []
            if block.routed is not None:
                handles += block.routed.watch(self._copy_routed(position, block.routed.scale))
            for handle in handles:
                self._installed.callback(handle.remove)
        if any(isinstance(block.routed, SwitchedExperts) for block in self.blocks):
            self._installed.callback(self._model.set_experts_implementation, self._model.get_experts_implementation())
            self._model.set_experts_implementation(RECORDING_EXPERTS)
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop copying and restore the model."""
        self._close()

    def _close(self) -> None:
        self._armed = self._entered = False
        self._dense_slots = [()] * len(self.blocks)
        self._installed.close()

    def open(
        self, rows: int, steps: int, layers: tuple[int, int], *, dtype: torch.dtype, device: torch.device, limit: int
    ) -> int:
        """Make room for `steps` decoding steps of `rows` rows and start copying.

        Args:
            rows: Rows in the batch.
            steps: Desired number of steps.
            layers: (first, end) of the layers to copy, as positions in `blocks`.
            dtype: Dtype of the activations.
            device: Device of the activations.
            limit: Greatest size of the buffer in bytes; one step is always held.

        Returns:
            Number of steps that fit; after this number of steps the caller must call `take`.

        Raises:
            RecordingError: The tap has not been entered as a context manager.
        """
        if not self._entered:
            msg = "the activation tap is not installed on the model; use it as a context manager"
            raise RecordingError(msg)
        blocks = self.blocks[slice(*layers)]
        widths = [block.width for block in blocks]
        steps = max(1, min(steps, limit // (rows * sum(widths) * dtype.itemsize)))
        elements = steps * rows * sum(widths)
        if self._memory.numel() < elements or (self._memory.dtype, self._memory.device) != (dtype, device):
            self._memory = torch.empty(elements, dtype=dtype, device=device)
        parts = torch.split(self._memory[:elements], [steps * rows * width for width in widths])
        self.open_on(
            [_layer(block, part.view(steps, rows, block.width)) for block, part in zip(blocks, parts, strict=True)],
            layers[0],
        )
        return steps

    def open_on(self, layers: Sequence[LayerActivations], first_layer: int = 0) -> None:
        """Start copying into tensors of the caller.

        Args:
            layers: Where the activations of consecutive layers go, one entry per layer.
            first_layer: Position in `blocks` of the first of them.
        """
        blocks = self.blocks[first_layer : first_layer + len(layers)]
        self._layers = list(layers)
        self._dense_slots = [()] * len(self.blocks)
        self._dense_slots[first_layer : first_layer + len(layers)] = [
            layer.values[..., block.routed_width :].unbind() for block, layer in zip(blocks, layers, strict=True)
        ]
        self._copies_per_step = sum((block.routed is not None) + (block.dense is not None) for block in blocks)
        self.first_layer, self._step, self._copies, self._armed = first_layer, 0, 0, True
        self._slots = None

    def copy_step(self, layers: Sequence[LayerActivations]) -> None:
        """Fill the slots of this step, in place of a forward pass.

        Args:
            layers: Activations of one step, an entry for every one of `blocks`, with the buffer's rows.
        """
        if self._slots is None:
            self._slots = _parts(self._layers, lambda tensor: tensor.unbind())
        sources = _parts(layers[self.first_layer :][: len(self._layers)], lambda tensor: (tensor[0],))
        for targets, values in zip(self._slots, sources, strict=True):
            if targets:
                # one kernel for all layers
                torch._foreach_copy_([slots[self._step] for slots in targets], [value for (value,) in values])
        self._copies = self._copies_per_step

    def next_step(self) -> int:
        """Advance to the next slot and return the number of filled slots.

        Raises:
            RecordingError: Not every layer has been copied exactly once in this step.
        """
        if self._copies != self._copies_per_step:
            msg = f"a step of the model ran {self._copies} feed-forward blocks and not {self._copies_per_step}"
            raise RecordingError(f"{msg}; its neurons cannot be recorded, switch the recorder off with record=False")
        self._step, self._copies = self._step + 1, 0
        return self._step

    def take(self) -> list[LayerActivations]:
        """Return the filled steps of every layer, as views of the buffer, and start over."""
        filled, self._step, self._copies = self._step, 0, 0
        return [layer.steps(filled) for layer in self._layers]

    @property
    def held_bytes(self) -> int:
        """Size of the buffer's memory."""
        return self._memory.nbytes

    def free(self) -> None:
        """Free the buffer's memory."""
        self._memory, self._layers, self._dense_slots = torch.empty(0), [], [()] * len(self.blocks)
        self._slots = None

    def _copied(self, position: int) -> LayerActivations | None:
        """Return the slot for the activations of a layer; None if the layer is not copied."""
        index = position - self.first_layer
        return self._layers[index] if self._armed and 0 <= index < len(self._layers) else None

    def _copy_dense(self, position: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def copy(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if slots := self._dense_slots[position]:
                slot = slots[self._step]
                slot.copy_(inputs[0].reshape(slot.shape))
                self._copies += 1

        return copy

    def _copy_gate(self, position: int, scale: float) -> Callable[[nn.Module, Any, torch.Tensor], None]:
        def copy(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            layer = self._copied(position)
            if layer is not None and layer.weights is not None:
                layer.weights[self._step, :, -1] = output.reshape(-1).float().sigmoid() * scale

        return copy

    def _copy_routed(self, position: int, scale: float) -> Watcher:
        width = self.blocks[position].routed_width

        def copy(activations: torch.Tensor, experts: torch.Tensor, weights: torch.Tensor) -> None:
            layer = self._copied(position)
            if layer is not None and layer.experts is not None and layer.weights is not None:
                layer.values[self._step, :, :width] = activations.flatten(1)
                layer.experts[self._step] = experts
                layer.weights[self._step, :, : experts.shape[-1]] = weights * scale
                self._copies += 1

        return copy


def _parts(
    layers: Sequence[LayerActivations], split: Callable[[torch.Tensor], tuple[torch.Tensor, ...]]
) -> tuple[list[tuple[torch.Tensor, ...]], ...]:
    """Return the values, experts and weights of the layers that have them, each split into steps."""
    parts = ("values", "experts", "weights")
    return tuple([split(tensor) for layer in layers if (tensor := getattr(layer, name)) is not None] for name in parts)


def empty_step(
    blocks: Sequence[FeedForward], rows: int, *, dtype: torch.dtype, device: torch.device
) -> list[LayerActivations]:
    """Return room for the activations of one step, an entry per block."""
    return [_layer(block, torch.zeros(1, rows, block.width, dtype=dtype, device=device)) for block in blocks]


def _layer(block: FeedForward, values: torch.Tensor) -> LayerActivations:
    steps, rows, _ = values.shape
    experts = weights = None
    if block.routed is not None:
        experts = torch.empty(steps, rows, block.routed.top_k, dtype=torch.int64, device=values.device)
    if block.weighted:
        parts = (block.routed.top_k if block.routed is not None else 0) + (block.dense is not None)
        # routed experts and a gate overwrite their own weights
        weights = torch.full((steps, rows, parts), block.dense.scale if block.dense else 1.0, device=values.device)
    return LayerActivations(values, experts, weights)
