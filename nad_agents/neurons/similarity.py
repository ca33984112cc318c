"""N x N similarity matrices of activated sets: Jaccard on packed bits, the others on dense blocks of neurons.

An entry is computed in the same way wherever its two candidates stand. So permuting the candidates permutes the matrix
exactly, to the last bit, and equal candidates have equal similarities to all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numkong
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

__all__ = ["cosine_matrix", "intersection_sizes", "jaccard_matrix", "weighted_jaccard_matrix"]

_PACKED_NEURONS = 1 << 20
"""Largest number of neurons that are packed without renumbering; large mixtures of experts are renumbered first."""

_COLUMNS = 4096
"""Number of neurons whose counts are dense at a time."""


def _packed(sets: Sequence[NDArray[np.int32]], n_neurons: int) -> NDArray[np.uint8]:
    packed = np.empty((len(sets), max(-(-n_neurons // 8), 1)), dtype=np.uint8)
    # one dense row at a time stays in the cache
    dense = np.zeros(packed.shape[1] * 8, dtype=np.uint8)
    for row, ids in zip(packed, sets, strict=True):
        dense[ids.astype(np.intp)] = 1
        row[:] = np.packbits(dense)
        dense.fill(0)
    return packed


def intersection_sizes(sets: Sequence[NDArray[np.int32]], n_neurons: int) -> NDArray[np.int64]:
    """Count the ids that each pair of sets shares.

    A set is packed to one bit per neuron. Two sets share (|A| + |B| - H) / 2 ids, where H is their Hamming distance;
    one call of NumKong, which uses the CPU's vector instructions, computes all H.

    Args:
        sets: N int32 arrays of unique ids in 0 .. n_neurons - 1.
        n_neurons: Number of neurons.

    Returns:
        int64 [N, N], with the sizes of the sets on the diagonal.
    """
    sizes = np.array([len(ids) for ids in sets], dtype=np.int64)
    if not len(sets):
        return np.zeros((0, 0), dtype=np.int64)
    if n_neurons > _PACKED_NEURONS:
        # the sets contain a small part of the millions of neurons of a mixture of experts
        used = np.unique(np.concatenate(sets))
        sets, n_neurons = [np.searchsorted(used, ids).astype(np.int32) for ids in sets], len(used)
    distances = numkong.hammings_symmetric(_packed(sets, n_neurons), dtype="uint1")
    # NumKong leaves the lower triangle undefined
    different = np.triu(np.asarray(distances).astype(np.int64), 1)
    different += different.T
    return (sizes[:, None] + sizes[None, :] - different) // 2


def jaccard_matrix(sets: Sequence[NDArray[np.int32]], n_neurons: int) -> NDArray[np.float64]:
    """Return the Jaccard similarity of each pair of sets, float64 [N, N].

    Two empty sets have similarity 1, an empty and a non-empty one 0.

    Args:
        sets: N int32 arrays of unique ids in 0 .. n_neurons - 1.
        n_neurons: Number of neurons.
    """
    shared = intersection_sizes(sets, n_neurons)
    sizes = shared.diagonal()
    return _ratio(shared.astype(np.float64), (sizes[:, None] + sizes[None, :] - shared).astype(np.float64))


def weighted_jaccard_matrix(
    counts: Sequence[tuple[NDArray[np.int32], NDArray[np.int32]]], n_neurons: int, scales: Sequence[float]
) -> NDArray[np.float64]:
    """Return the weighted Jaccard similarity (sum of minima over sum of maxima) of each pair, float64 [N, N].

    Args:
        counts: N pairs (ids, counts) of int32 arrays of equal length.
        n_neurons: Number of neurons.
        scales: A factor on the counts of each candidate: 1 compares counts, 1 / tokens compares rates.
    """
    n = len(counts)
    minima = np.zeros((n, n), dtype=np.float64)
    factors = np.asarray(scales, dtype=np.float64)[:, None]
    for block in _dense_blocks(counts, n_neurons):
        weights = block * factors
        for i in range(n):
            minima[i, i:] += np.minimum(weights[i:], weights[i]).sum(axis=1)
    minima = np.triu(minima) + np.triu(minima, 1).T
    # the totals are summed like the minima, so that equal candidates have a similarity of exactly 1
    totals = minima.diagonal()
    return _ratio(minima, totals[:, None] + totals[None, :] - minima)


def cosine_matrix(counts: Sequence[tuple[NDArray[np.int32], NDArray[np.int32]]], n_neurons: int) -> NDArray[np.float64]:
    """Return the cosine similarity of the activation counts of each pair, float64 [N, N]; rates would give the same.

    Args:
        counts: N pairs (ids, counts) of int32 arrays of equal length.
        n_neurons: Number of neurons.
    """
    n = len(counts)
    products = np.zeros((n, n), dtype=np.float64)
    for block in _dense_blocks(counts, n_neurons):
        # integers below 2**53: exact in whatever order the product sums them up
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
    """Return part over whole within [0, 1]: 1 on the diagonal and for two empty candidates, 0 if only one is empty."""
    ratio = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    empty = part.diagonal() == 0
    ratio[np.ix_(empty, empty)] = 1.0
    np.fill_diagonal(ratio, 1.0)
    return np.clip(ratio, 0.0, 1.0)
