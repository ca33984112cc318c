"""Where a model keeps its feed-forward neurons, found by structure and not by model name.

A neuron is one intermediate unit of a feed-forward block, and its activation is the input of that block's down
projection (METHOD: gated ``act(W_gate x) * (W_up x)``, fused gate and up in one matrix, or plain ``act(W_in x)``).
So it is enough to find, in every decoder layer, the projection that leads from the wide space back to the model's:

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
from nad_agents.models.int8 import Int8Linear

__all__ = ["FeedForward", "FeedForwardKind", "Unembedding", "find_feed_forwards", "find_unembedding"]

FeedForwardKind = Literal["gated", "fused", "plain"]


@dataclass(frozen=True)
class FeedForward:
    """The feed-forward block of one decoder layer.

    Attributes:
        layer: index of the decoder layer.
        name: qualified name of the down projection in the model.
        kind: how the block makes its activations.
        d_ff: number of neurons.
        down: the down projection; its input is the activation of the neurons.
    """

    layer: int
    name: str
    kind: FeedForwardKind
    d_ff: int
    down: nn.Module

    def down_weight(self) -> torch.Tensor:
        """Weight of the down projection, [d_model, d_ff]; column i is what neuron i writes.

        Raises:
            UnsupportedModelError: the weight is quantised, so that it cannot be read as a matrix.
        """
        if isinstance(self.down, Int8Linear):
            return self.down.weight * self.down.scale[:, None]
        weight = getattr(self.down, "weight", None)
        if not isinstance(weight, torch.Tensor) or not weight.is_floating_point():
            msg = (
                f"the weight of {self.name} cannot be read as a matrix (quantised?); "
                "use score='activation', or load the model unquantised"
            )
            raise UnsupportedModelError(msg)
        return weight.detach().T if isinstance(self.down, Conv1D) else weight.detach()


@dataclass(frozen=True)
class Unembedding:
    """What turns the last hidden state into logits.

    Attributes:
        weight: [vocabulary, d_model], one row per token.
        scale: float32 [vocabulary], what an int8 row is multiplied by; None for rows of floats.
        norm_weight: [d_model], the effective gain of the final norm; None when there is no such norm.
    """

    weight: torch.Tensor
    norm_weight: torch.Tensor | None
    scale: torch.Tensor | None = None

    def rows(self, token_ids: torch.Tensor, *, use_norm: bool) -> torch.Tensor:
        """Unembedding rows of tokens.

        Args:
            token_ids: [T].
            use_norm: multiply by the final norm's gain, so that the row acts on the residual stream.

        Returns:
            [T, d_model].
        """
        rows = self.weight[token_ids]
        if self.scale is not None:
            rows = rows * self.scale[token_ids, None]
        return rows * self.norm_weight if use_norm and self.norm_weight is not None else rows


def find_feed_forwards(model: nn.Module) -> tuple[FeedForward, ...]:
    """Find the feed-forward block of every decoder layer.

    Args:
        model: a causal language model of transformers.

    Returns:
        One block per decoder layer, in order.

    Raises:
        UnsupportedModelError: there are no decoder layers, or a layer has no block of a known kind.
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
    """Find the unembedding matrix and the final norm's gain, which the attribution score needs.

    Raises:
        UnsupportedModelError: the output embedding is absent, quantised, or not of the model's width.
    """
    config = _text_config(model)
    getter = getattr(model, "get_output_embeddings", None)
    output = getter() if callable(getter) else None
    weight = getattr(output, "weight", None)
    scale = output.scale if isinstance(output, Int8Linear) else None
    if not isinstance(weight, torch.Tensor) or not (weight.is_floating_point() or scale is not None):
        msg = f"{type(model).__name__} has no readable unembedding matrix; use score='activation'"
        raise UnsupportedModelError(msg)
    if weight.shape[1] != config.hidden_size:
        msg = (
            f"the unembedding of {type(model).__name__} has width {weight.shape[1]}, its layers {config.hidden_size}, "
            "so a neuron has no direct contribution to a logit; use score='activation'"
        )
        raise UnsupportedModelError(msg)
    return Unembedding(weight.detach(), _final_norm_gain(model, config.hidden_size), scale)


def _text_config(model: nn.Module) -> Any:
    config: Any = getattr(model, "config", None)
    getter = getattr(config, "get_text_config", None)
    return getter(decoder=True) if getter is not None else config


def _shape(module: nn.Module) -> tuple[int, int] | None:
    """(inputs, outputs) of a linear-like module, None for any other."""
    if isinstance(module, Conv1D):
        return int(module.weight.shape[0]), int(module.weight.shape[1])
    inputs, outputs = getattr(module, "in_features", None), getattr(module, "out_features", None)
    return (inputs, outputs) if isinstance(inputs, int) and isinstance(outputs, int) else None


def _blocks(layer: nn.Module, hidden: int) -> Iterator[tuple[str, FeedForwardKind, int, nn.Module]]:
    """Blocks of a layer: sibling projections, outside attention, whose shapes fit one of the kinds."""
    for parent_name, parent in layer.named_modules():
        if "attn" in parent_name.lower() or "attention" in parent_name.lower():
            continue
        if any(isinstance(child, nn.Conv1d) for child in parent.children()):
            continue  # a state-space mixer: its projections have a fused block's shapes, but it is no FFN
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


def _final_norm_gain(model: nn.Module, hidden: int) -> torch.Tensor | None:
    """Effective gain of the last norm that stands outside the decoder layers."""
    gain = None
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        outside = not any(part.isdigit() for part in name.split("."))
        if outside and isinstance(weight, torch.Tensor) and weight.shape == (hidden,):
            # Gemma's RMSNorm multiplies by 1 + weight, which its output on a unit vector shows without naming it.
            probe = torch.ones(1, hidden, dtype=weight.dtype, device=weight.device)
            probe[:, ::2] = -1
            with torch.no_grad():
                gain = (module(probe) - (getattr(module, "bias", None) if _has_bias(module) else 0)) / probe
    return None if gain is None else gain[0].detach()


def _has_bias(module: nn.Module) -> bool:
    return isinstance(getattr(module, "bias", None), torch.Tensor)
