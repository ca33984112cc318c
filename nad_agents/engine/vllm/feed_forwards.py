"""Find the feed-forward neurons of a vLLM model by its structure, as `nad_agents.neurons.architectures` does.

vLLM's linear layers have attributes for their whole size (`input_size`, `output_size`) and for this worker's part
(`input_size_per_partition`). Gate and up projection are one merged layer in most of its models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from nad_agents.exceptions import UnsupportedModelError

__all__ = ["DownProjection", "find_down_projections"]

_EXPERTS = ("Experts", "MoERunner", "FusedMoE")
"""Parts of the names of the classes in which vLLM's versions keep routed or shared experts."""


@dataclass(frozen=True)
class DownProjection:
    """The down projection of one decoder layer; its input is the activation of the layer's neurons.

    Attributes:
        layer: Index of the decoder layer.
        module: The projection.
        d_ff: Number of the layer's neurons on all tensor-parallel workers together.
        local_width: Number of neurons that this worker computes.
        first_neuron: Index within the layer of this worker's first neuron.
    """

    layer: int
    module: nn.Module
    d_ff: int
    local_width: int
    first_neuron: int = 0


def find_down_projections(model: nn.Module, *, n_layers: int, hidden_size: int) -> tuple[DownProjection, ...]:
    """Find the down projection of every decoder layer.

    Args:
        model: A language model that vLLM has loaded.
        n_layers: Number of decoder layers, from the model's config.
        hidden_size: Width of the residual stream, from the model's config.

    Returns:
        One projection per decoder layer, in order.

    Raises:
        UnsupportedModelError: The model has a mixture of experts or an unknown kind of feed-forward block, or this
            worker does not hold all of its layers.
    """
    name = type(model).__name__
    stack = next(
        (module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == n_layers), None
    )
    if stack is None or n_layers == 0:
        msg = f"{name} has no list of {n_layers} decoder layers; NAD needs a decoder-only transformer"
        raise UnsupportedModelError(msg)
    found = []
    for index, layer in enumerate(stack):
        if any(_holds_experts(module) for module in layer.modules()):
            msg = (
                f"layer {index} of {name} is a mixture of experts, whose neurons engine='vllm' does not record; use "
                "engine='hf' or a dense model, or set record=False with a selector that needs no neurons"
            )
            raise UnsupportedModelError(msg)
        blocks = list(_down_projections(layer, hidden_size))
        if not blocks:
            msg = (
                f"layer {index} of {name} has no feed-forward block of a known kind (gated, fused gate-up or plain); "
                "use a dense model, or set record=False with a selector that needs no neurons"
            )
            raise UnsupportedModelError(msg)
        down = max(blocks, key=lambda module: _size(module)[0])
        d_ff, layer_of_weights = _size(down)[0], _without_adapter(down)
        local_width = int(getattr(layer_of_weights, "input_size_per_partition", d_ff))
        first_neuron = int(getattr(layer_of_weights, "tp_rank", 0)) * local_width
        # the outer layer is the one that is called
        found.append(DownProjection(index, down, d_ff, local_width, first_neuron))
    return tuple(found)


def _down_projections(layer: nn.Module, hidden_size: int) -> Iterator[nn.Module]:
    """Yield the projections outside attention that map neurons back to the model's width."""
    for name, parent in layer.named_modules():
        if "attn" in name.lower() or "attention" in name.lower():
            continue
        children = dict(parent.named_children())
        if "conv1d" in children:
            continue  # a state-space mixer: its projections have the shapes of a fused block, but it is no FFN
        linears = [child for child in children.values() if _size(child) != (0, 0)]
        for down in reversed(linears):
            d_ff, width = _size(down)
            ups = [_size(other)[1] for other in linears if other is not down and _size(other)[0] == hidden_size]
            if width == hidden_size and ups in ([d_ff, d_ff], [2 * d_ff], [d_ff]):
                yield down
                break


def _holds_experts(module: nn.Module) -> bool:
    return any(part in base.__name__ for base in type(module).__mro__ for part in _EXPERTS)


def _without_adapter(module: nn.Module) -> nn.Module:
    """Return the layer inside the one that vLLM puts around it for LoRA adapters, whose sizes are this worker's."""
    inner = getattr(module, "base_layer", module)
    return inner if isinstance(inner, nn.Module) else module


def _size(module: nn.Module) -> tuple[int, int]:
    """Return (inputs, outputs) of one of vLLM's linear layers over all workers, and (0, 0) for any other module."""
    module = _without_adapter(module)
    inputs, outputs = getattr(module, "input_size", None), getattr(module, "output_size", None)
    return (inputs, outputs) if isinstance(inputs, int) and isinstance(outputs, int) else (0, 0)
