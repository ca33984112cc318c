"""Compute the activated neurons of one step's tokens from the copied activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.neurons.top_k import best_of_layers, top_neurons_at_once

__all__ = ["step_neurons"]

Gather = Callable[[torch.Tensor], torch.Tensor]
"""Function that concatenates the tensors of all tensor-parallel workers along their last dimension."""


def step_neurons(
    activations: torch.Tensor,
    config: RecordingConfig,
    *,
    stride: int,
    first_neurons: Sequence[int] | None = None,
    gather: Gather | None = None,
) -> torch.Tensor:
    """Return the neuron ids of every row's activated set, best-scored first.

    All layers are computed at once: two dozen operations, and two collective ones, instead of as many per layer.

    Args:
        activations: [L, R, width], the activations of this worker's part of each recorded layer, with zeros after those
            of a layer that has fewer.
        config: Config with top_k_neurons and top_k_neurons_per_layer.
        stride: Neuron i of the layer at position l among the recorded layers has the id l * stride + i.
        first_neurons: Index within its layer of this worker's first neuron, for each layer.
        gather: Function that collects the parts of all tensor-parallel workers; None if there is one worker.

    Returns:
        int32 [R, k], where k = min(top_k_neurons, what all layers offer). -1 stands in the place of a neuron whose
        activation is exactly zero.
    """
    if gather is None or first_neurons is None:
        return top_neurons_at_once(
            activations, config.top_k_neurons_per_layer, config.top_k_neurons, stride, magnitudes=True
        )
    # 1. select each worker's best neurons, which include the layer's best
    best = activations.abs().float().topk(min(config.top_k_neurons_per_layer, activations.shape[-1]), dim=-1)
    first = torch.tensor(list(first_neurons), device=activations.device)[:, None, None]
    values = gather(best.values.contiguous())
    # the numbers within a layer are gathered as floats, which hold them exactly; not every backend gathers integers
    numbers = gather((best.indices + first).float()).long()
    # 2. select the best neurons of each whole layer
    kept = values.topk(min(config.top_k_neurons_per_layer, values.shape[-1]), dim=-1, sorted=False)
    first_ids = stride * torch.arange(len(activations), device=activations.device)[:, None, None]
    return best_of_layers(kept.values, numbers.gather(-1, kept.indices) + first_ids, config.top_k_neurons)
