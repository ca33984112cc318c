"""Compute the activated neurons of one step's tokens from the copied activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.neurons.top_k import LayerScores, top_neurons

__all__ = ["step_neurons"]

Gather = Callable[[torch.Tensor], torch.Tensor]
"""Function that concatenates the tensors [R, m] of all tensor-parallel workers along their last dimension."""


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
        layers: Activations [R, width] of this worker's part of each recorded layer.
        config: Config with top_k and the limit per layer.
        stride: Neuron i of the layer at position l among the recorded layers has the id l * stride + i.
        first_neuron: Index within its layer of this worker's first neuron.
        gather: Function that collects the parts of all tensor-parallel workers; None if there is one worker.

    Returns:
        int32 [R, k], where k = min(top_k, what all layers offer). -1 stands in the place of a neuron whose activation
        is exactly zero.
    """
    if gather is None:
        return top_neurons(map(LayerScores, layers), config.per_layer_top, config.top_k, stride, magnitudes=True)
    values, ids = [], []
    for position, activations in enumerate(layers):
        # 1. select each worker's best neurons, which include the layer's best
        local = activations.abs().float()
        best = local.topk(min(config.per_layer_top, local.shape[-1]), dim=-1)
        layer_values = gather(best.values.contiguous())
        # the numbers are gathered as floats, which hold them exactly, since not every backend gathers integers
        layer_ids = gather((best.indices + first_neuron).float()).long() + position * stride
        # 2. select the best neurons of the whole layer
        kept = layer_values.topk(min(config.per_layer_top, layer_values.shape[-1]), dim=-1, sorted=False)
        values.append(kept.values)
        ids.append(torch.where(kept.values != 0, layer_ids.gather(-1, kept.indices), -1))
    pooled = torch.cat(values, dim=-1)
    order = pooled.topk(min(config.top_k, pooled.shape[-1]), dim=-1).indices
    return torch.cat(ids, dim=-1).gather(-1, order).to(torch.int32)
