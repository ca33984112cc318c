"""The best-scored neurons of every token: per layer the best few, and the best k of those over all layers.

Two ways to the same sets. `torch.topk` works everywhere. On a CPU, 16-bit scores are faster as integers: a score's
bits, made monotone, and the neuron's number share one machine word, so that numpy's vectorised partition sorts both
at once; that takes about 0.6 of the time.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["top_neurons"]

_WORD_NEURONS = 1 << 16
"""Neurons per layer that fit beside a 16-bit score in a 32-bit word."""


def top_neurons(layers: Iterable[torch.Tensor], per_layer_top: int, top_k: int, stride: int) -> torch.Tensor:
    """Neuron ids of the best scores, best first.

    Args:
        layers: scores of each layer, [T, d_ff] each; taken one at a time, so that only one needs to exist.
        per_layer_top: at most so many neurons of one layer.
        top_k: at most so many of all layers.
        stride: neuron i of the layer at position l has the id l * stride + i.

    Returns:
        int32 [T, k], k = min(top_k, what the layers offer). A score of exactly zero is not activated: -1 stands there.
    """
    pools: list[NDArray[np.int64]] = []
    values: list[torch.Tensor] = []
    ids: list[torch.Tensor] = []
    for position, scores in enumerate(layers):
        keep = min(per_layer_top, scores.shape[-1])
        if scores.device.type == "cpu" and scores.itemsize == 2 and scores.shape[-1] <= _WORD_NEURONS:
            pools.append(_packed_top(scores, keep, position * stride))
        else:
            top = scores.topk(keep, dim=-1, sorted=False)
            values.append(top.values)
            ids.append(torch.where(top.values != 0, top.indices + position * stride, -1))
    if pools:
        return _best_packed(np.concatenate(pools, axis=-1), top_k)
    pooled = torch.cat(values, dim=-1)
    best = pooled.topk(min(top_k, pooled.shape[-1]), dim=-1, sorted=True).indices
    return torch.cat(ids, dim=-1).gather(-1, best).to(torch.int32)


def _packed_top(scores: torch.Tensor, keep: int, first_id: int) -> NDArray[np.int64]:
    """The best of one layer as (score << 32 | id), int64 [T, keep], in no order."""
    bits = scores.contiguous().view(torch.int16)
    # sign and magnitude to two's complement: the order of the integers is then the order of the scores
    order = (bits ^ ((bits >> 15) & 0x7FFF)).to(torch.int32)
    words = ((order << 16) | torch.arange(scores.shape[-1], dtype=torch.int32)).numpy()
    words.partition(words.shape[-1] - keep, axis=-1)
    best = words[:, words.shape[-1] - keep :].astype(np.int64)
    return ((best >> 16) << 32) | ((best & 0xFFFF) + first_id)


def _best_packed(pool: NDArray[np.int64], top_k: int) -> torch.Tensor:
    keep = min(top_k, pool.shape[-1])
    pool.partition(pool.shape[-1] - keep, axis=-1)
    best = np.sort(pool[:, pool.shape[-1] - keep :], axis=-1)[:, ::-1]
    score = best >> 32
    # 0 and -1 are the orders of plus and minus zero
    ids = np.where((score == 0) | (score == -1), -1, best & 0xFFFFFFFF)
    return torch.from_numpy(ids.astype(np.int32))
