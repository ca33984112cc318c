"""Find a model's feed-forward neurons by the model's structure, not by its name.

A neuron is one intermediate unit of a feed-forward block, and its activation is the input of that block's down
projection (METHOD: gated ``act(W_gate x) * (W_up x)``, fused gate and up in one matrix, or plain ``act(W_in x)``):

========  ===================================================  =============================================
kind      projections of one block (d = model, f = neurons)    examples
========  ===================================================  =============================================
gated     d -> f, d -> f, f -> d                               Llama, Qwen 2/3, Mistral, Gemma, OLMo 2
fused     d -> 2f, f -> d                                      Phi-3, GLM-4
plain     d -> f, f -> d                                       GPT-2, GPT-NeoX, OPT, Falcon, StarCoder 2
experts   e blocks in 3-D weights, of which a router takes k   Qwen3-MoE, Mixtral, gpt-oss, Llama 4
========  ===================================================  =============================================

A layer may have routed experts and a dense block beside them (a shared expert). Neuron i of expert e has the number
e * f + i in its layer, and the neurons of the dense block follow those of all experts. Layers without a feed-forward
block have no number: layers are counted over those that have one.

A model is accepted only if these neurons account for the whole output of its layers' feed-forward blocks. Every matrix
of a layer must belong to a block found here or to a known part of another kind (`nad_agents.neurons.layer_structure`).
In one forward pass over a few tokens, before anything is recorded, the neurons must reproduce the blocks' outputs
(`nad_agents.neurons.structure_check`). For any other model, an error names the part that is not understood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import nn

from nad_agents.exceptions import UnsupportedModelError
from nad_agents.models.dense_weight import dense_weight
from nad_agents.models.int8 import Int8Linear
from nad_agents.neurons.dense import DenseBlock
from nad_agents.neurons.experts import RoutedExperts
from nad_agents.neurons.layer_structure import LayerReader, Owner
from nad_agents.neurons.structure_check import check_structure

__all__ = [
    "FeedForward",
    "FeedForwardKind",
    "Unembedding",
    "decoder_layers",
    "find_feed_forwards",
    "find_unembedding",
    "verify_feed_forwards",
]

FeedForwardKind = Literal["gated", "fused", "plain", "experts", "experts and dense"]

_ADVICE = "choose another model, or switch the recorder off with record=False and a selector without neurons"


@dataclass(frozen=True)
class FeedForward:
    """The feed-forward neurons of one decoder layer.

    Attributes:
        layer: Index of the decoder layer in the model.
        owners: The modules whose output is that of the routed experts, of the dense block, or the sum of both.
    """

    layer: int
    owners: tuple[Owner, ...]

    @cached_property
    def routed(self) -> RoutedExperts | None:
        """The routed experts; None in a dense layer."""
        return next((owner.routed for owner in self.owners if owner.routed is not None), None)

    @cached_property
    def dense(self) -> DenseBlock | None:
        """The dense block, which every token passes; None if the layer has only experts."""
        return next((owner.dense for owner in self.owners if owner.dense is not None), None)

    @property
    def kind(self) -> FeedForwardKind:
        """The parts of the layer: the routed experts and the dense block, as far as they exist."""
        if self.routed is not None:
            return "experts" if self.dense is None else "experts and dense"
        assert self.dense is not None
        return self.dense.kind

    @property
    def d_ff(self) -> int:
        """Number of neurons in the layer."""
        routed = self.routed.n_experts * self.routed.d_ff if self.routed is not None else 0
        return routed + (self.dense.d_ff if self.dense is not None else 0)

    @property
    def routed_width(self) -> int:
        """Number of activations of a token that belong to routed experts."""
        return self.routed.top_k * self.routed.d_ff if self.routed is not None else 0

    @property
    def width(self) -> int:
        """Number of activations that the layer computes for one token."""
        return self.routed_width + (self.dense.d_ff if self.dense is not None else 0)

    @property
    def weighted(self) -> bool:
        """Whether the layer's output is a weighted sum of its parts."""
        return self.routed is not None or (self.dense is not None and self.dense.gate is not None)

    def check_attribution(self) -> None:
        """Check that the down projections can be read.

        Raises:
            UnsupportedModelError: A down projection cannot be read.
        """
        if self.dense is not None:
            self.dense.down_weight()


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


def decoder_layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Find the decoder layers of a model.

    Args:
        model: A causal language model of transformers, or a multimodal model with a text decoder.

    Returns:
        The qualified name of the list of layers, and the list.

    Raises:
        UnsupportedModelError: The model has no such list.
    """
    config = _text_config(model)
    n_layers = getattr(config, "num_hidden_layers", None)
    getter = getattr(model, "get_decoder", None)
    decoder = getter() if callable(getter) else None
    # an image encoder may have the same number of layers, so the decoder is searched first
    for root in (decoder, model):
        if not isinstance(root, nn.Module):
            continue
        for module in root.modules():
            if isinstance(module, nn.ModuleList) and len(module) == n_layers and len(module) > 0:
                return next(name for name, other in model.named_modules() if other is module), module
    msg = f"{type(model).__name__} has no list of decoder layers; NAD needs a decoder-only transformer"
    raise UnsupportedModelError(msg)


def find_feed_forwards(model: nn.Module) -> tuple[FeedForward, ...]:
    """Find the neurons of every decoder layer that has a feed-forward block, without running the model.

    Args:
        model: A causal language model of transformers.

    Returns:
        One entry per layer with a feed-forward block, in order.

    Raises:
        UnsupportedModelError: The model has no decoder layers or no feed-forward block, or a layer has a part that is
            not understood.
    """
    prefix, stack = decoder_layers(model)
    config = _text_config(model)
    hidden = getattr(config, "hidden_size", None)
    if not isinstance(hidden, int):
        msg = f"the config of {type(model).__name__} names no hidden_size; NAD needs a decoder-only transformer"
        raise UnsupportedModelError(msg)
    reader = LayerReader(hidden, config)
    found = []
    for index, layer in enumerate(stack):
        try:
            owners = reader.read(layer, f"{prefix}.{index}")
        except UnsupportedModelError as error:
            msg = f"layer {index} of {type(model).__name__}: {error}; {_ADVICE}"
            raise UnsupportedModelError(msg) from error
        if owners:
            found.append(FeedForward(index, tuple(owners)))
    if not found:
        msg = f"no layer of {type(model).__name__} has a feed-forward block, so it has no neurons to record; {_ADVICE}"
        raise UnsupportedModelError(msg)
    return tuple(found)


def verify_feed_forwards(model: nn.Module, blocks: Sequence[FeedForward]) -> tuple[FeedForward, ...]:
    """Check in one forward pass over a few tokens that the neurons account for the blocks' outputs.

    Args:
        model: The model, in eval mode.
        blocks: The blocks that `find_feed_forwards` returned.

    Returns:
        The blocks, completed by the results of the forward pass (see `check_structure`).

    Raises:
        UnsupportedModelError: The neurons do not account for the output of a block.
    """
    try:
        checked = iter(check_structure(model, [owner for block in blocks for owner in block.owners]))
    except UnsupportedModelError as error:
        msg = f"{type(model).__name__}: {error}; {_ADVICE}"
        raise UnsupportedModelError(msg) from error
    return tuple(replace(block, owners=tuple(next(checked) for _ in block.owners)) for block in blocks)


def find_unembedding(model: nn.Module) -> Unembedding:
    """Find the unembedding matrix, which the attribution score needs.

    Raises:
        UnsupportedModelError: The output embedding is absent, quantized, or not of the model's width.
    """
    config = _text_config(model)
    getter = getattr(model, "get_output_embeddings", None)
    output = getter() if callable(getter) else None
    scale = output.scale if isinstance(output, Int8Linear) else None
    # int8 rows are converted when they are needed, since the whole matrix as floats takes four times the memory
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
