"""Recognize a feed-forward block that every token passes, by the linear layers that it consists of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from nad_agents.exceptions import UnsupportedModelError
from nad_agents.models.dense_weight import dense_weight

__all__ = ["DenseBlock", "DenseKind", "find_down_projection", "linear_shape"]

DenseKind = Literal["gated", "fused", "plain"]


@dataclass(frozen=True)
class DenseBlock:
    """A feed-forward block that every token passes.

    Attributes:
        name: Qualified name of the down projection in the model.
        kind: How the block computes its activations.
        d_ff: Number of neurons.
        down: The down projection, whose input is the activation of the neurons.
        gate: For a shared expert with its own gate, the projection whose sigmoid is the weight of the expert's output.
        scale: Constant by which the output is multiplied before it is added to that of the routed experts.
        no_attribution: Why a neuron's direct contribution to a logit cannot be computed; empty if it can.
    """

    name: str
    kind: DenseKind
    d_ff: int
    down: nn.Module
    gate: nn.Module | None = None
    scale: float = 1.0
    no_attribution: str = ""

    def down_weight(self) -> torch.Tensor:
        """Return the weight of the down projection, [d_model, d_ff]; column i is the direction that neuron i writes.

        Raises:
            UnsupportedModelError: The weight is quantized and cannot be read as a matrix, or `no_attribution` is set.
        """
        if self.no_attribution:
            msg = f"{self.no_attribution}; use score='activation'"
            raise UnsupportedModelError(msg)
        weight = dense_weight(self.down)
        if weight is None:
            msg = (
                f"the weight of {self.name} is stored in a form that cannot be read as a matrix "
                f"({type(self.down).__name__}); use score='activation', or load the model unquantized"
            )
            raise UnsupportedModelError(msg)
        return weight


def linear_shape(module: nn.Module) -> tuple[int, int] | None:
    """Return (inputs, outputs) of a linear-like module, and None for any other module."""
    if isinstance(module, Conv1D):
        return int(module.weight.shape[0]), int(module.weight.shape[1])
    inputs, outputs = getattr(module, "in_features", None), getattr(module, "out_features", None)
    return (inputs, outputs) if isinstance(inputs, int) and isinstance(outputs, int) else None


def find_down_projection(
    linears: Sequence[tuple[str, nn.Module]], hidden: int
) -> tuple[str, nn.Module, DenseKind, int] | None:
    """Recognize the linear layers of a dense feed-forward block.

    Args:
        linears: Names and modules of all the block's linear layers, in the model's order.
        hidden: Width of the model.

    Returns:
        Name, module, kind and number of neurons of the down projection; None if the shapes fit no kind.
    """
    shapes = [(name, module, linear_shape(module)) for name, module in linears]
    for name, down, shape in reversed(shapes):
        if shape is None or shape[1] != hidden:
            continue
        d_ff = shape[0]
        match [other for _, module, other in shapes if module is not down]:
            case [a, b] if a == b == (hidden, d_ff):
                return name, down, "gated", d_ff
            case [a] if a == (hidden, 2 * d_ff):
                return name, down, "fused", d_ff
            case [a] if a == (hidden, d_ff):
                return name, down, "plain", d_ff
    return None
