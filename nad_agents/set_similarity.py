"""N x N similarities of activated sets: Jaccard on packed bits, the others on dense blocks of neurons.

Every entry is computed the same way wherever its two candidates stand, so that permuting the candidates
permutes the matrix to the last bit, and equal candidates are equally similar to everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

__all__ = ["cosine_matrix", "intersection_sizes", "jaccard_matrix", "weighted_jaccard_matrix"]

_COMPACT_FROM = 128
"""From so many sets on, dropping neurons that tell no two sets apart saves more than it costs (measured)."""

_ROWS = 64
"""Sets compared with one set in one call: enough to hide the call, few enough for the cache (measured)."""

_COLUMNS = 4096
"""Neurons held densely at a time."""

_BIT_VALUES = 2.0 ** np.arange(32)


def _packed(sets: Sequence[NDArray[np.int32]], n_columns: int) -> NDArray[np.uint64]:
    # bincount sums distinct powers of two below 2**32, which float64 holds exactly
    n_words = 2 * -(-n_columns // 64)
    packed = np.empty((len(sets), n_words), dtype=np.uint32)
    for row, ids in zip(packed, sets, strict=True):
        row[:] = np.bincount(ids >> 5, weights=_BIT_VALUES[ids & 31], minlength=n_words)
    return packed.view(np.uint64)


def _compacted(sets: Sequence[NDArray[np.int32]], n_neurons: int) -> tuple[list[NDArray[np.int32]], int, int]:
    counts = np.bincount(np.concatenate(sets), minlength=n_neurons)
    kept = (counts > 1) & (counts < len(sets))
    position = np.where(kept, np.cumsum(kept) - 1, -1).astype(np.int32)
    columns = [position[ids] for ids in sets]
    return [c[c >= 0] for c in columns], int(kept.sum()), int((counts == len(sets)).sum())


def intersection_sizes(sets: Sequence[NDArray[np.int32]], n_neurons: int) -> NDArray[np.int64]:
    """How many ids each two sets share.

    One bit per neuron, 64 to a word: AND, then population count. From 128 sets on, neurons that are in one set
    only (they are in no intersection) or in all of them (they are in every one) are taken out first.

    Args:
        sets: N sets of unique ids in 0 .. n_neurons - 1, int32.
        n_neurons: how many neurons there are.

    Returns:
        int64 [N, N], the diagonal holding the sizes of the sets.
    """
    n = len(sets)
    sizes = np.array([len(ids) for ids in sets], dtype=np.int64)
    n_columns, in_all = n_neurons, 0
    if n >= _COMPACT_FROM:
        sets, n_columns, in_all = _compacted(sets, n_neurons)
    packed = _packed(sets, n_columns)
    shared = np.zeros((n, n), dtype=np.int64)
    both = np.empty((min(_ROWS, n), packed.shape[1]), dtype=np.uint64)
    bits = np.empty(both.shape, dtype=np.uint8)
    for start in range(0, n, _ROWS):
        stop = min(start + _ROWS, n)
        for i in range(stop):
            low = max(i, start)
            rows = stop - low
            np.bitwise_and(packed[low:stop], packed[i], out=both[:rows])
            np.bitwise_count(both[:rows], out=bits[:rows])
            shared[i, low:stop] = np.add.reduce(bits[:rows], axis=1, dtype=np.uint32)
    shared += in_all
    shared = np.triu(shared, 1)
    shared += shared.T
    np.fill_diagonal(shared, sizes)
    return shared


def jaccard_matrix(sets: Sequence[NDArray[np.int32]], n_neurons: int) -> NDArray[np.float64]:
    """Jaccard similarity of each two sets, float64 [N, N].

    Two empty sets have similarity 1, an empty and a non-empty one 0.

    Args:
        sets: N sets of unique ids in 0 .. n_neurons - 1, int32.
        n_neurons: how many neurons there are.
    """
    shared = intersection_sizes(sets, n_neurons)
    sizes = shared.diagonal()
    return _ratio(shared.astype(np.float64), (sizes[:, None] + sizes[None, :] - shared).astype(np.float64))


def weighted_jaccard_matrix(
    counts: Sequence[tuple[NDArray[np.int32], NDArray[np.int32]]], n_neurons: int, scales: Sequence[float]
) -> NDArray[np.float64]:
    """Weighted Jaccard similarity (sum of minima over sum of maxima) of each two candidates, float64 [N, N].

    Args:
        counts: N pairs (ids, counts) of int32 arrays of equal length.
        n_neurons: how many neurons there are.
        scales: N factors on the counts: 1 compares counts, 1 / tokens compares rates.
    """
    n = len(counts)
    minima = np.zeros((n, n), dtype=np.float64)
    factors = np.asarray(scales, dtype=np.float64)[:, None]
    for block in _dense_blocks(counts, n_neurons):
        weights = block * factors
        for i in range(n):
            minima[i, i:] += np.minimum(weights[i:], weights[i]).sum(axis=1)
    minima = np.triu(minima) + np.triu(minima, 1).T
    # the totals go through the same sums as the minima, so that equal candidates have exactly 1
    totals = minima.diagonal()
    return _ratio(minima, totals[:, None] + totals[None, :] - minima)


def cosine_matrix(counts: Sequence[tuple[NDArray[np.int32], NDArray[np.int32]]], n_neurons: int) -> NDArray[np.float64]:
    """Cosine of how often each neuron was activated, float64 [N, N]; counts and rates have the same cosine.

    Args:
        counts: N pairs (ids, counts) of int32 arrays of equal length.
        n_neurons: how many neurons there are.
    """
    n = len(counts)
    products = np.zeros((n, n), dtype=np.float64)
    for block in _dense_blocks(counts, n_neurons):
        # whole numbers below 2**53: exact in whatever order the product sums them
        products += block @ block.T
    norms = products.diagonal()
    return _ratio(products, np.sqrt(norms[:, None] * norms[None, :]))


def _dense_blocks(
    counts: Sequence[tuple[NDArray[np.int32], NDArray[np.int32]]], n_neurons: int
) -> Iterator[NDArray[np.float64]]:
    if not counts:
        return
    ends = np.cumsum([0, *(len(ids) for ids, _ in counts)])
    values = np.concatenate([c for _, c in counts]).astype(np.float64)
    ids = np.concatenate([i for i, _ in counts])
    columns = csr_array((values, ids, ends), shape=(len(counts), n_neurons)).tocsc()
    columns = columns[:, np.flatnonzero(np.diff(columns.indptr))]
    for start in range(0, columns.shape[1], _COLUMNS):
        yield np.ascontiguousarray(columns[:, start : start + _COLUMNS].toarray())


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Part over whole within [0, 1], 1 on the diagonal and where both are empty; 0 where only one is."""
    ratio = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    empty = part.diagonal() == 0
    ratio[np.ix_(empty, empty)] = 1.0
    np.fill_diagonal(ratio, 1.0)
    return np.clip(ratio, 0.0, 1.0)
