"""From the copied activations of one step to the activated neurons of its tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.neurons.top_k import LayerScores, top_neurons

__all__ = ["step_neurons"]

Gather = Callable[[torch.Tensor], torch.Tensor]
"""Concatenates the tensors [R, m] of all tensor-parallel workers along their last dimension."""


def step_neurons(
    layers: Sequence[torch.Tensor],
    config: RecordingConfig,
    *,
    stride: int,
    first_neuron: int = 0,
    gather: Gather | None = None,
) -> torch.Tensor:
    """Return the neuron ids of every row's activated set, best-scored first.

    Args:
        layers: Activations [R, width] of each recorded layer; the part of the layer that this worker computes.
        config: top_k and the limit per layer.
        stride: Neuron i of the layer at position l among the recorded layers has the id l * stride + i.
        first_neuron: Number, within its layer, of this worker's first neuron.
        gather: Collects the parts of all tensor-parallel workers; None if there is one worker.

    Returns:
        int32 [R, k], where k = min(top_k, what all layers offer). -1 stands in the place of a neuron whose activation
        is exactly zero.
    """
    if gather is None:
        return top_neurons(map(LayerScores, layers), config.per_layer_top, config.top_k, stride, magnitudes=True)
    values, ids = [], []
    for position, activations in enumerate(layers):
        # 1. each worker's best of the layer contain the layer's best
        local = activations.abs().float()
        best = local.topk(min(config.per_layer_top, local.shape[-1]), dim=-1)
        layer_values = gather(best.values.contiguous())
        # as floats, which hold these numbers exactly, since not every backend gathers integers
        layer_ids = gather((best.indices + first_neuron).float()).long() + position * stride
        # 2. the best of the whole layer
        kept = layer_values.topk(min(config.per_layer_top, layer_values.shape[-1]), dim=-1, sorted=False)
        values.append(kept.values)
        ids.append(torch.where(kept.values != 0, layer_ids.gather(-1, kept.indices), -1))
    pooled = torch.cat(values, dim=-1)
    order = pooled.topk(min(config.top_k, pooled.shape[-1]), dim=-1).indices
    return torch.cat(ids, dim=-1).gather(-1, order).to(torch.int32)
