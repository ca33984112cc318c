"""Measure how many bytes a token's activated neurons take on disk; prints a Markdown table for a recorded run.

Every method stores the same neurons of the same problems and is read back; the table says which information it keeps.

    python benchmarks/storage.py RUN            # a minute; needs pyarrow and pyroaring: pip install --group benchmarks
"""

from __future__ import annotations

import argparse
import io
import platform
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyroaring

from nad_agents.runs import RecordedRun
from nad_agents.runs.neuron_codec import decode_neurons, encode_neurons
from nad_agents.runs.records import BLOCK_TOKENS, SIGNALS

CHUNK = 32


def blocks(neurons):
    return [neurons[start : start + BLOCK_TOKENS] for start in range(0, len(neurons), BLOCK_TOKENS)]


def ours(neurons):
    return [encode_neurons(block) for block in blocks(neurons)]


def read_ours(parts):
    return np.concatenate([decode_neurons(part) for part in parts])


def raw(neurons):
    return [neurons.tobytes()]


def npz(neurons):
    file = io.BytesIO()
    np.savez_compressed(file, neurons=neurons)
    return [file.getvalue()]


def read_npz(parts):
    return np.load(io.BytesIO(parts[0]))["neurons"]


def parquet(neurons):
    """Store as a list column, in the smallest of Parquet's encodings with zstd compression."""
    table = pa.table({"neurons": pa.FixedSizeListArray.from_arrays(pa.array(neurons.ravel()), neurons.shape[1])})
    best = None
    for encoding in ("DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT", "PLAIN", None):
        file = io.BytesIO()
        chosen = {} if encoding is None else {"column_encoding": {"neurons.list.element": encoding}}
        pq.write_table(table, file, compression="zstd", compression_level=9, use_dictionary=encoding is None, **chosen)
        if best is None or len(file.getvalue()) < len(best):
            best = file.getvalue()
    return [best]


def read_parquet(parts):
    column = pq.read_table(io.BytesIO(parts[0]))["neurons"].combine_chunks()
    return column.values.to_numpy().reshape(len(column), -1)


def roaring(sets):
    return [pyroaring.BitMap(ids[ids >= 0]).serialize() for ids in sets]


def read_roaring(parts):
    return [np.array(pyroaring.BitMap.deserialize(part), dtype=np.int32) for part in parts]


def ascending(neurons):
    return np.sort(neurons, axis=1)


METHODS = {
    # name: (what it keeps, write, read, what must come back)
    "ours": ("order of the scores", ours, read_ours, lambda n: n),
    "int32": ("order of the scores", raw, None, None),
    "npz": ("order of the scores", npz, read_npz, lambda n: n),
    "parquet, zstd": ("order of the scores", parquet, read_parquet, lambda n: n),
    "ours, sorted": ("the set of each token", lambda n: ours(ascending(n)), read_ours, ascending),
    "npz, sorted": ("the set of each token", lambda n: npz(ascending(n)), read_npz, ascending),
    "parquet, zstd, sorted": ("the set of each token", lambda n: parquet(ascending(n)), read_parquet, ascending),
    "roaring": ("the set of each token", roaring, read_roaring, ascending),
    "roaring, per 32 tokens": (
        "the set of each chunk",
        lambda n: roaring([n[start : start + CHUNK].ravel() for start in range(0, len(n), CHUNK)]),
        read_roaring,
        lambda n: [np.unique(n[start : start + CHUNK]) for start in range(0, len(n), CHUNK)],
    ),
}


def same(found, expected):
    if isinstance(found, np.ndarray):
        return np.array_equal(found, expected)
    return all(np.array_equal(a, np.asarray(b)[np.asarray(b) >= 0]) for a, b in zip(found, expected, strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="folder of a recorded run")
    parser.add_argument("--problems", type=int, default=8, help="number of its problems to store")
    arguments = parser.parse_args()
    run = RecordedRun(arguments.run)
    names = run.problems[: arguments.problems]
    groups = [np.concatenate([r.neurons for r in run.group(name).rollouts]) for name in names]
    tokens = sum(len(g) for g in groups)
    layout = run.header(names[0])["layout"]
    print(
        f"{run.manifest.model['name']}, {layout['n_layers']} layers of {layout['d_ff']}, {groups[0].shape[1]} neurons "
        f"per token; {len(names)} problems, {tokens:,} tokens; Python {platform.python_version()}, "
        f"pyarrow {pa.__version__}, pyroaring {pyroaring.__version__}\n"
    )
    print("| method | keeps | bytes per token | times ours | write, us per token | read, us per token |")
    print("|---|---|---|---|---|---|")
    first = None
    for name, (keeps, write, read, expected) in METHODS.items():
        started = time.perf_counter()
        stored = [write(group) for group in groups]
        writing = 1e6 * (time.perf_counter() - started) / tokens
        started = time.perf_counter()
        found = [read(parts) for parts in stored] if read else None
        reading = f"{1e6 * (time.perf_counter() - started) / tokens:.1f}" if read else ""
        if found is not None and not all(same(f, expected(g)) for f, g in zip(found, groups, strict=True)):
            raise SystemExit(f"{name} did not give back what it stored")
        size = sum(len(part) for parts in stored for part in parts) / tokens
        first = first or size
        print(f"| {name} | {keeps} | {size:.1f} | {size / first:.2f} | {writing:.1f} | {reading} |")
    sections = [section for name in names for section in run.header(name)["sections"]]
    signals = sum(s["size"] for s in sections if s["name"] in SIGNALS) / tokens
    print(f"\nBesides: {signals:.1f} bytes per token of ids, log-probabilities, entropies and confidences.")


if __name__ == "__main__":
    main()
