"""Encode activated neurons as bytes, in about a quarter of their size in memory; lossless, and keeping the score order.

A block of T tokens with k neurons each becomes three Zstandard frames:

- *levels*, one byte per neuron id up to the largest: 0 for a neuron that no token of the block has, else 1 +
  floor(log2(count)). Sorting the neurons by descending level, then id, numbers the used ones 0, 1, ..., frequent ones
  first.
- *gaps*, the differences less one between the ascending numbers of one token, which are small because frequent neurons
  have small numbers. A gap of 255 or more is written as 255, and its excess over 255 follows after all gaps as
  little-endian uint32, in four planes of bytes.
- *ranks*, for each of the ascending numbers its position in the token's descending scores, as two planes of bytes (low,
  high). If rows have padding, a zero byte, which makes the length odd, and the rows' lengths as uint16 follow.

Candidates of one prompt repeat each other's beginnings, and a block holds all of them, so the compressor looks for
matches in the whole block and not only in its most recent bytes.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from nad_agents.runs.compression import CompressionError, compress, decompress

__all__ = ["decode_neurons", "encode_neurons"]

_HEADER = struct.Struct("<BIHIII")  # form, tokens, width, bytes of levels, gaps, ranks
_RAW, _PACKED = 0, 1
_ESCAPE = 255
_MOST_NEURONS = 2**24
"""Packing takes memory for every id up to the largest; the largest dense models have about seven million neurons."""


def _numbering(levels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the used neurons in the order in which they are numbered: by descending level, then by id."""
    used = np.flatnonzero(levels)
    return used[np.argsort(-levels[used].astype(np.int64), kind="stable")]


def _packable(neurons: NDArray[np.int32]) -> bool:
    """Return whether every row is distinct neurons below `_MOST_NEURONS`, followed by nothing but padding."""
    _, k = neurons.shape
    if k > 65535 or neurons.min(initial=0) < -1 or not 0 <= neurons.max(initial=-1) < _MOST_NEURONS:
        return False
    counts = (neurons >= 0).sum(axis=1)
    padded_at_end = bool(((neurons >= 0) == (np.arange(k) < counts[:, None])).all())
    ascending = np.sort(neurons, axis=1)
    repeated = bool(((ascending[:, 1:] == ascending[:, :-1]) & (ascending[:, 1:] >= 0)).any())
    return padded_at_end and not repeated


def encode_neurons(neurons: NDArray[np.int32]) -> bytes:
    """Encode a block of activated neurons.

    Args:
        neurons: Int32 [T, k], each row in descending score, padded with -1.

    Returns:
        Bytes from which `decode_neurons` restores the same array.
    """
    tokens, k = neurons.shape
    if not _packable(neurons):
        body = compress(np.ascontiguousarray(neurons, dtype="<i4").tobytes())
        return _HEADER.pack(_RAW, tokens, k, len(body), 0, 0) + body
    present = neurons >= 0
    # 1. number the neurons, the frequent ones first
    used = np.bincount(neurons[present])
    levels = np.zeros(len(used), dtype=np.uint8)
    levels[used > 0] = 1 + np.floor(np.log2(used[used > 0])).astype(np.uint8)
    numbering = _numbering(levels)
    number = np.full(len(levels), -1, dtype=np.int64)
    number[numbering] = np.arange(len(numbering))
    # 2. sort each row by number, padding last, and remember the rank of each entry
    numbers = np.where(present, number[np.where(present, neurons, 0)], len(numbering)).astype(np.int32)
    order = np.argsort(numbers, axis=1)
    ascending = np.take_along_axis(numbers, order, axis=1)
    kept = ascending < len(numbering)
    gaps = (np.diff(ascending, axis=1, prepend=-1) - 1)[kept]
    ranks = order[kept]
    # 3. write; the rows' lengths are only written if a row has padding
    counts = present.sum(axis=1)
    ragged = b"" if bool((counts == k).all()) else b"\0" + counts.astype("<u2").tobytes()
    excess = (gaps[gaps >= _ESCAPE] - _ESCAPE).astype("<u4").view(np.uint8).reshape(-1, 4)
    streams = [
        compress(levels.tobytes()),
        compress(np.minimum(gaps, _ESCAPE).astype(np.uint8).tobytes() + excess.T.tobytes()),
        compress((ranks & 255).astype(np.uint8).tobytes() + (ranks >> 8).astype(np.uint8).tobytes() + ragged),
    ]
    return _HEADER.pack(_PACKED, tokens, k, *map(len, streams)) + b"".join(streams)


def decode_neurons(data: bytes) -> NDArray[np.int32]:
    """Decode the bytes that `encode_neurons` wrote.

    Returns:
        Int32 [T, k].

    Raises:
        ValueError: The bytes are not such a block.
    """
    try:
        form, tokens, k, *sizes = _HEADER.unpack_from(data)
        streams, start = [], _HEADER.size
        for size in sizes:
            streams.append(decompress(data[start : start + size]) if size else b"")
            start += size
        if form == _RAW:
            return np.frombuffer(streams[0], dtype="<i4").reshape(tokens, k).astype(np.int32)
        return _unpack(streams, tokens, k)
    except (struct.error, CompressionError, IndexError) as error:
        msg = f"not a block of activated neurons: {error}"
        raise ValueError(msg) from error


def _unpack(streams: list[bytes], tokens: int, k: int) -> NDArray[np.int32]:
    numbering = _numbering(np.frombuffer(streams[0], dtype=np.uint8))
    # 1. read how many neurons each row has
    total = tokens * k
    planes = np.frombuffer(streams[2], dtype=np.uint8)
    counts = np.full(tokens, k, dtype=np.int64)
    if len(planes) != 2 * total:
        counts = planes[len(planes) - 2 * tokens :].view("<u2").astype(np.int64)
        total = int(counts.sum())
    ranks = planes[:total].astype(np.int64) + (planes[total : 2 * total].astype(np.int64) << 8)
    # 2. restore the ascending numbers: sums of the gaps, starting anew in each row
    stream = np.frombuffer(streams[1], dtype=np.uint8)
    gaps = stream[:total].astype(np.int64)
    excess = np.ascontiguousarray(stream[total:].reshape(4, -1).T).view("<u4").ravel()
    gaps[gaps == _ESCAPE] += excess
    sums = np.cumsum(gaps + 1)
    ends = np.cumsum(counts)
    before = np.concatenate([[0], sums])[ends - counts]
    rows = np.repeat(np.arange(tokens), counts)
    # 3. restore the order of descending scores
    neurons = np.full((tokens, k), -1, dtype=np.int32)
    neurons[rows, ranks] = numbering[sums - 1 - before[rows]]
    return neurons
