"""The best-scored neurons of every token: the best few of each layer, then the best k of those over all layers.

There are two ways to the same sets. `torch.topk` works everywhere. It takes as many layers at a time as have the same
width, since on a GPU a call for each would take longer to launch than to run, and it takes only the groups of scores
with the largest maxima, which hold all that is wanted. On a CPU, integers are faster: a score's bits, made
monotone, share one machine word with the neuron's number, so numpy's vectorized partition moves both at once. A layer
is partitioned by the upper 16 bits of the scores, which together with the number take 32 bits. A 16-bit score is then
compared in full, a 32-bit score is not: a few more neurons than wanted are taken and compared in full, and the tokens
for which a neuron that was not taken might belong to the best are done again with 64-bit words. So are all tokens of a
layer that has more neurons than 16 bits can number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["LayerScores", "best_of_layers", "top_neurons", "top_neurons_at_once"]

_WORD_NEURONS = 1 << 16
"""Greatest number of neurons per layer whose numbers fit beside 16 bits of a score in a 32-bit word."""

_MARGIN = 16
"""Number of neurons taken in addition to those wanted; with it, no real activations needed 64-bit words (measured)."""

_BLOCK = 1 << 16
"""Number of scores processed at a time, so that their words stay in a core's cache (measured)."""

_COLUMN = 16
"""Number of scores of which `torch.topk` first sees the maximum alone. With 16, the maxima and the scores of the
columns that are kept are together the fewest for 20,000 neurons of which 64 are wanted."""

_STACKED = 1 << 27
"""Greatest number of scores that `torch.topk` gets at a time, as layers are copied side by side for it."""


class LayerScores(NamedTuple):
    """The scores of one layer.

    Attributes:
        scores: [T, n].
        number: Maps places int64 [T, m] in the rows of `scores` to the neurons' numbers in the layer; None where the
            place is the number.
    """

    scores: torch.Tensor
    number: Callable[[torch.Tensor], torch.Tensor] | None = None


def top_neurons(
    layers: Iterable[LayerScores],
    top_k_neurons_per_layer: int,
    top_k_neurons: int,
    stride: int,
    *,
    magnitudes: bool = False,
) -> torch.Tensor:
    """Return the neuron ids of the best scores, best first.

    Args:
        layers: Scores of each layer, all of one dtype; an iterator may create them one at a time.
        top_k_neurons_per_layer: Greatest number of neurons from one layer.
        top_k_neurons: Greatest number of neurons from all layers.
        stride: The neuron with number i of the layer at position l has the id l * stride + i.
        magnitudes: Whether to compare the scores without their sign.

    Returns:
        int32 [T, k], where k = min(top_k_neurons, what all layers offer). A neuron whose score is exactly zero is not
        activated; -1 stands in its place.
    """
    pools: list[NDArray[np.int64]] = []
    parts: list[_Best] = []
    stack: list[torch.Tensor] = []
    first = 0

    def take_stack() -> None:
        if stack:
            keep = min(top_k_neurons_per_layer, stack[0].shape[-1])
            parts.append(_top_of_stack(torch.stack(stack), keep, first * stride, stride, magnitudes))
            stack.clear()

    for position, (scores, number) in enumerate(layers):
        keep = min(top_k_neurons_per_layer, scores.shape[-1])
        if scores.device.type == "cpu" and scores.itemsize in (2, 4):
            pools.append(_packed_top(scores, keep, position * stride, magnitudes, number))
            continue
        if stack and (
            number is not None or stack[0].shape != scores.shape or scores.numel() * (len(stack) + 1) > _STACKED
        ):
            take_stack()
        if number is not None:
            parts.append(_top_of_stack(scores[None].clone(), keep, position * stride, stride, magnitudes, number))
            continue
        first = position - len(stack)
        stack.append(scores)
    if pools:
        return _best_packed(pools, top_k_neurons)
    take_stack()
    return _best_of(
        torch.cat([part.scores for part in parts], dim=-1),
        torch.cat([part.ids for part in parts], dim=-1),
        top_k_neurons,
    )


def top_neurons_at_once(
    scores: torch.Tensor, top_k_neurons_per_layer: int, top_k_neurons: int, stride: int, *, magnitudes: bool = False
) -> torch.Tensor:
    """Return what `top_neurons` returns for layers of one width, from all layers in one pass.

    For the few tokens of one step, the number of operations takes more time than the operations themselves.

    Args:
        scores: Scores [L, T, n] of all layers.
        top_k_neurons_per_layer: See `top_neurons`, as for the other arguments.
        top_k_neurons: See there.
        stride: See there.
        magnitudes: See there.

    Returns:
        int32 [T, k]; see there.
    """
    layers, tokens, width = scores.shape
    keep = min(top_k_neurons_per_layer, width)
    if scores.device.type == "cpu" and scores.itemsize in (2, 4):
        best = _packed_top(scores.reshape(layers * tokens, width), keep, 0, magnitudes, None)
        pools = best.reshape(layers, tokens, keep) + stride * np.arange(layers)[:, None, None]
        return _best_packed(list(pools), top_k_neurons)
    best_of_each = _top_of_stack(scores.abs() if magnitudes else scores, keep, 0, stride, magnitudes=False)
    return _best_of(best_of_each.scores, best_of_each.ids, top_k_neurons)


def best_of_layers(values: torch.Tensor, ids: torch.Tensor, top_k_neurons: int) -> torch.Tensor:
    """Return the neuron ids of the best among the best of each layer, best first; -1 in the place of a zero score.

    Args:
        values: Scores [L, T, m] of the best neurons of each layer.
        ids: Their neuron ids, int64 [L, T, m].
        top_k_neurons: Greatest number of neurons from all layers.

    Returns:
        int32 [T, k], where k = min(top_k_neurons, L * m).
    """
    activated = torch.where(values != 0, ids, -1)
    return _best_of(values.transpose(0, 1).flatten(1), activated.transpose(0, 1).flatten(1), top_k_neurons)


def _best_of(values: torch.Tensor, ids: torch.Tensor, top_k_neurons: int) -> torch.Tensor:
    best = values.topk(min(top_k_neurons, values.shape[-1]), dim=-1, sorted=True).indices
    return ids.gather(-1, best).to(torch.int32)


class _Best(NamedTuple):
    """The best neurons of some layers, in no order.

    Attributes:
        scores: [T, n].
        ids: int64 [T, n], -1 where the score is exactly zero.
    """

    scores: torch.Tensor
    ids: torch.Tensor


def _top_of_stack(
    scores: torch.Tensor,
    keep: int,
    first_id: int,
    stride: int,
    magnitudes: bool,
    number: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> _Best:
    """Return the best neurons of each of some layers.

    Args:
        scores: [L, T, n], which may be changed.
        keep: Number of neurons of each layer.
        first_id: Id of the first layer's first neuron.
        stride: Distance between the ids of two layers.
        magnitudes: Whether to compare the scores without their sign.
        number: See `LayerScores`; only for a single layer.
    """
    values, places = _top(scores.abs_() if magnitudes else scores, keep)
    numbers = places if number is None else number(places[0])[None]
    firsts = torch.arange(first_id, first_id + len(scores) * stride, stride, device=scores.device)
    ids = torch.where(values != 0, numbers + firsts[:, None, None], -1)
    return _Best(values.transpose(0, 1).flatten(1), ids.transpose(0, 1).flatten(1))


def _top(scores: torch.Tensor, keep: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best scores [L, T, keep] of [L, T, n], in no order, and their places.

    The scores are divided into columns of `_COLUMN` scores. A column is left out if as many columns as scores are
    wanted have a maximum that is no smaller: each of these has a score that is as good as any in the column.
    """
    layers, tokens, width = scores.shape
    columns = width // _COLUMN
    if width % _COLUMN or 2 * (columns + keep * _COLUMN) > width:
        top = scores.topk(keep, dim=-1, sorted=False)
        return top.values, top.indices
    table = scores.view(layers, tokens, _COLUMN, columns)
    kept = table.amax(2).topk(keep, dim=-1, sorted=False).indices
    pool = table.gather(3, kept[:, :, None].expand(-1, -1, _COLUMN, -1)).flatten(2)
    top = pool.topk(keep, dim=-1, sorted=False)
    line = top.indices.div(keep, rounding_mode="floor")
    return top.values, line * columns + kept.gather(-1, top.indices - line * keep)


def _packed_top(
    scores: torch.Tensor,
    keep: int,
    first_id: int,
    magnitudes: bool,
    number: Callable[[torch.Tensor], torch.Tensor] | None,
) -> NDArray[np.int64]:
    """Return the best neurons of one layer as (score << 32 | id), int64 [T, keep], in no order."""
    wide = scores.itemsize == 4
    bits: NDArray[np.int16 | np.int32] = scores.contiguous().view(torch.int32 if wide else torch.int16).numpy()
    best = np.empty((len(bits), keep), dtype=np.int64)
    for rows in _blocks(*bits.shape):
        order = bits[rows] & np.iinfo(bits.dtype).max if magnitudes else _monotone(bits[rows])
        if order.shape[-1] > _WORD_NEURONS:
            best[rows] = _top_of_words(order, keep)
        else:
            best[rows] = _top_of_32(order, keep) if wide else _top_of_16(order, keep)
    if number is not None:
        numbers = number(torch.from_numpy(best & 0xFFFFFFFF)).numpy()
        best = best >> 32 << 32 | numbers
    best += first_id
    return best


def _blocks(tokens: int, width: int) -> Iterator[slice]:
    size = max(1, _BLOCK // max(width, 1))
    return (slice(start, start + size) for start in range(0, tokens, size))


def _monotone(bits: NDArray[np.signedinteger]) -> NDArray[np.signedinteger]:
    """Convert sign and magnitude to two's complement, so that the integers have the order of the scores."""
    order = bits >> (8 * bits.itemsize - 1)
    order &= np.iinfo(bits.dtype).max
    order ^= bits
    return order


def _top_of_16(order: NDArray[np.signedinteger], keep: int) -> NDArray[np.int64]:
    """Return (score << 32 | number) for the best 16-bit scores of each row."""
    best = _partitioned(order.astype(np.int32) << 16, keep)
    return ((best >> 16) << 32) | (best & 0xFFFF)


def _top_of_32(order: NDArray[np.signedinteger], keep: int) -> NDArray[np.int64]:
    """Return (score << 32 | number) for the best 32-bit scores of each row."""
    width = order.shape[-1]
    taken = min(keep + _MARGIN, width)
    rough = _partitioned(order & -_WORD_NEURONS, taken)
    numbers = rough & 0xFFFF
    full = np.take_along_axis(order, numbers, axis=-1).astype(np.int64) << 32 | numbers
    full.partition(taken - keep, axis=-1)
    best = full[:, taken - keep :]
    # in the upper bits no neuron left out is above the least one taken, so a row is safe where the last wanted score
    # is above the least one taken in these bits
    unsure = np.flatnonzero(best[:, 0] >> 48 <= rough[:, 0] >> 16) if taken < width else ()
    for row in unsure:
        best[row] = _top_of_words(order[row], keep)
    return best


def _top_of_words(order: NDArray[np.signedinteger], keep: int) -> NDArray[np.int64]:
    """Return (score << 32 | number) for the best scores of each row, whatever their number."""
    width = order.shape[-1]
    words: NDArray[np.int64] = order.astype(np.int64) << 32 | np.arange(width)
    words.partition(width - keep, axis=-1)
    return words[..., width - keep :]


def _partitioned(words: NDArray[np.signedinteger], keep: int) -> NDArray[np.int64]:
    """Return the best words with the neuron's number in the low 16 bits, the smallest of them first."""
    width = words.shape[-1]
    words |= np.arange(width, dtype=words.dtype)
    words.partition(width - keep, axis=-1)
    return words[:, width - keep :].astype(np.int64)


def _best_packed(pools: list[NDArray[np.int64]], top_k_neurons: int) -> torch.Tensor:
    """Return the ids of the best words of all layers, best first."""
    offered = sum(pool.shape[-1] for pool in pools)
    keep = min(top_k_neurons, offered)
    ids = np.empty((len(pools[0]), keep), dtype=np.int32)
    for rows in _blocks(len(ids), offered):
        pool = np.concatenate([layer[rows] for layer in pools], axis=-1)
        pool.partition(offered - keep, axis=-1)
        best = np.sort(pool[:, offered - keep :], axis=-1)[:, ::-1]
        score = best >> 32
        # plus and minus zero have become 0 and -1
        ids[rows] = np.where((score == 0) | (score == -1), -1, best & 0xFFFFFFFF)
    return torch.from_numpy(ids)
