"""Where a model keeps its feed-forward neurons, found by structure and not by model name.

A neuron is one intermediate unit of a feed-forward block, and its activation is the input of that block's down
projection (METHOD: gated ``act(W_gate x) * (W_up x)``, fused gate and up in one matrix, or plain ``act(W_in x)``).
So it suffices to find, in every decoder layer, the projection that leads from the neurons back to the model's width:

========  ===================================================  =============================================
kind      projections of one block (d = model, f = neurons)    examples
========  ===================================================  =============================================
gated     d -> f, d -> f, f -> d                               Llama, Qwen 2/3, Mistral, Gemma, OLMo 2
fused     d -> 2f, f -> d                                      Phi-3
plain     d -> f, f -> d                                       GPT-2, GPT-NeoX, OPT, Falcon, StarCoder 2
========  ===================================================  =============================================
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from nad_agents.exceptions import UnsupportedModelError
from nad_agents.models.dense_weight import dense_weight
from nad_agents.models.int8 import Int8Linear

__all__ = ["FeedForward", "FeedForwardKind", "Unembedding", "find_feed_forwards", "find_unembedding"]

FeedForwardKind = Literal["gated", "fused", "plain"]


@dataclass(frozen=True)
class FeedForward:
    """The feed-forward block of one decoder layer.

    Attributes:
        layer: Index of the decoder layer.
        name: Qualified name of the down projection in the model.
        kind: How the block computes its activations.
        d_ff: Number of neurons.
        down: The down projection, whose input is the activation of the neurons.
    """

    layer: int
    name: str
    kind: FeedForwardKind
    d_ff: int
    down: nn.Module

    def down_weight(self) -> torch.Tensor:
        """Return the weight of the down projection, [d_model, d_ff]; column i is the direction that neuron i writes.

        Raises:
            UnsupportedModelError: The weight is quantized in a form that cannot be read as a matrix.
        """
        weight = dense_weight(self.down)
        if weight is None:
            msg = (
                f"the weight of {self.name} is stored in a form that cannot be read as a matrix "
                f"({type(self.down).__name__}); use score='activation', or load the model unquantized"
            )
            raise UnsupportedModelError(msg)
        return weight


@dataclass(frozen=True)
class Unembedding:
    """The matrix that turns the last hidden state into logits.

    Attributes:
        weight: [vocabulary, d_model], one row per token.
        scale: float32 [vocabulary], the factor of each int8 row; None for rows of floats.
    """

    weight: torch.Tensor
    scale: torch.Tensor | None = None

    def rows(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Return the rows of tokens [T] as floats, [T, d_model]."""
        rows = self.weight[token_ids]
        return rows if self.scale is None else rows * self.scale[token_ids, None]


def find_feed_forwards(model: nn.Module) -> tuple[FeedForward, ...]:
    """Find the feed-forward block of every decoder layer.

    Args:
        model: A causal language model of transformers.

    Returns:
        One block per decoder layer, in order.

    Raises:
        UnsupportedModelError: The model has no decoder layers, or a layer has no block of a known kind.
    """
    config = _text_config(model)
    hidden = getattr(config, "hidden_size", None)
    n_layers = getattr(config, "num_hidden_layers", None)
    layers = next(
        (
            (name, module)
            for name, module in model.named_modules()
            if isinstance(module, nn.ModuleList) and len(module) == n_layers and len(module) > 0
        ),
        None,
    )
    if layers is None or hidden is None:
        msg = f"{type(model).__name__} has no list of decoder layers; NAD needs a decoder-only transformer"
        raise UnsupportedModelError(msg)
    prefix, stack = layers
    found = []
    for index, layer in enumerate(stack):
        blocks = [
            FeedForward(index, f"{prefix}.{index}.{name}", kind, d_ff, down)
            for name, kind, d_ff, down in _blocks(layer, hidden)
        ]
        if not blocks:
            msg = (
                f"layer {index} of {type(model).__name__} has no feed-forward block of a known kind "
                "(gated, fused gate-up or plain); mixture-of-experts and attention-free layers cannot be recorded, "
                "choose a dense model or switch the recorder off with record=False and a selector without neurons"
            )
            raise UnsupportedModelError(msg)
        found.append(max(blocks, key=lambda block: block.d_ff))
    return tuple(found)


def find_unembedding(model: nn.Module) -> Unembedding:
    """Find the unembedding matrix, which the attribution score needs.

    Raises:
        UnsupportedModelError: The output embedding is absent, quantized, or not of the model's width.
    """
    config = _text_config(model)
    getter = getattr(model, "get_output_embeddings", None)
    output = getter() if callable(getter) else None
    scale = output.scale if isinstance(output, Int8Linear) else None
    # int8 rows are multiplied when they are needed, since the whole matrix as floats takes four times the memory
    weight: torch.Tensor | None = None
    if isinstance(output, nn.Module):
        weight = output.weight if isinstance(output, Int8Linear) else dense_weight(output)
    if weight is None:
        msg = f"{type(model).__name__} has no readable unembedding matrix; use score='activation'"
        raise UnsupportedModelError(msg)
    if weight.shape[1] != config.hidden_size:
        msg = (
            f"the unembedding of {type(model).__name__} has width {weight.shape[1]}, its layers {config.hidden_size}, "
            "so a neuron has no direct contribution to a logit; use score='activation'"
        )
        raise UnsupportedModelError(msg)
    return Unembedding(weight.detach(), scale)


def _text_config(model: nn.Module) -> Any:
    config: Any = getattr(model, "config", None)
    getter = getattr(config, "get_text_config", None)
    return getter(decoder=True) if getter is not None else config


def _shape(module: nn.Module) -> tuple[int, int] | None:
    """Return (inputs, outputs) of a linear-like module, and None for any other module."""
    if isinstance(module, Conv1D):
        return int(module.weight.shape[0]), int(module.weight.shape[1])
    inputs, outputs = getattr(module, "in_features", None), getattr(module, "out_features", None)
    return (inputs, outputs) if isinstance(inputs, int) and isinstance(outputs, int) else None


def _blocks(layer: nn.Module, hidden: int) -> Iterator[tuple[str, FeedForwardKind, int, nn.Module]]:
    """Yield the blocks of a layer: sibling projections outside attention whose shapes fit one of the kinds."""
    for parent_name, parent in layer.named_modules():
        if "attn" in parent_name.lower() or "attention" in parent_name.lower():
            continue
        if any(isinstance(child, nn.Conv1d) for child in parent.children()):
            continue  # a state-space mixer: its projections have the shapes of a fused block, but it is no FFN
        linears = [
            (name, child, shape) for name, child in parent.named_children() if (shape := _shape(child)) is not None
        ]
        for name, down, (d_ff, width) in reversed(linears):
            if width != hidden:
                continue
            ups = [shape[1] for _, other, shape in linears if other is not down and shape[0] == hidden]
            kind: FeedForwardKind
            match ups:
                case [a, b] if a == b == d_ff:
                    kind = "gated"
                case [a] if a == 2 * d_ff:
                    kind = "fused"
                case [a] if a == d_ff:
                    kind = "plain"
                case _:
                    continue
            yield (f"{parent_name}.{name}" if parent_name else name), kind, d_ff, down
            break
