"""Read a GGUF file's header once, and dequantize its weights on several cores in pieces that fit a core's cache.

transformers opens a GGUF file separately for the config, the tokenizer and the weights, and parses the vocabulary each
time. It also makes the list of tensor names once per module, and dequantizes each matrix as a whole on one core.
`reading_once` gives transformers one reader and faster functions while it converts a file; the results are identical.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import modeling_gguf_pytorch_utils
from transformers.integrations import ggml

from nad_agents.models.gguf_gpt_oss import GptOssTensors

__all__ = ["HeaderReader", "reading_once"]

_PIECE = 1 << 16
"""Number of weights dequantized at a time; with larger pieces the intermediate arrays leave the cache (measured)."""

_BESIDE_TOKENS = tuple(f"tokenizer.ggml.{part}" for part in ("merges", "scores", "token_type"))
"""Keys with one entry per token."""

_READS_VOCABULARY = hasattr(ggml, "GGUF_TO_FAST_CONVERTERS")
"""Whether transformers makes tokenizers of what this reader gives it. Newer versions read the vocabulary by themselves,
and would convert these entries to Python objects without using them."""

_MISREAD = "gpt-oss.rope.scaling."
"""Start of keys of which transformers takes the length of the name for the value."""

_PLAIN = (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16)


class HeaderReader(gguf.GGUFReader):
    """`gguf.GGUFReader` without a memory-mapped array for every word of the vocabulary: five times as fast."""

    def _get(self, *args: Any, **options: Any) -> NDArray[Any]:
        if isinstance(self.data, np.memmap):
            plain: Any = self.data.view(np.ndarray)
            self.data = plain
        values: NDArray[Any] = super()._get(*args, **options)
        return values


@contextmanager
def reading_once(reader: HeaderReader, dtype: torch.dtype) -> Iterator[None]:
    """Make transformers use one reader, and dequantize directly to a type, while the block runs.

    The replacement affects the whole process, so only one file may be converted at a time.

    Args:
        reader: A reader of the only file that transformers will be asked for.
        dtype: The type that transformers will convert the weights to; float16 needs no float32 copy.
    """
    unused = () if _READS_VOCABULARY else _BESIDE_TOKENS
    for key in [*unused, *(name for name in reader.fields if name.startswith(_MISREAD))]:
        reader.fields.pop(key, None)
    target: type[np.float16 | np.float32] = np.float16 if dtype == torch.float16 else np.float32
    library: Any = gguf
    originals = library.GGUFReader, library.dequantize, library.get_tensor_name_map
    processors: dict[str, Any] = modeling_gguf_pytorch_utils.TENSOR_PROCESSORS
    known_processors = dict(processors)
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="nad-dequantize") as pool:

        def dequantize(data: NDArray[Any], kind: gguf.GGMLQuantizationType) -> NDArray[Any]:
            if kind in _PLAIN:
                return np.asarray(originals[1](data, kind))
            return _dequantized(data, kind, target, pool)

        # transformers imports these at each call
        library.GGUFReader, library.dequantize = (lambda _path: reader), dequantize
        library.get_tensor_name_map = cache(originals[2])
        processors["gpt-oss"] = GptOssTensors
        try:
            yield
        finally:
            library.GGUFReader, library.dequantize, library.get_tensor_name_map = originals
            processors.clear()
            processors.update(known_processors)


def _dequantized(
    data: NDArray[Any], kind: gguf.GGMLQuantizationType, target: type[np.generic], pool: ThreadPoolExecutor
) -> NDArray[Any]:
    """Return the weights of one tensor, [..., columns], of the type `target`."""
    block_weights, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = data.reshape(-1, block_bytes)
    weights = np.empty((len(blocks), block_weights), dtype=target)
    step = max(1, _PIECE // block_weights)

    def convert(start: int) -> None:
        piece = gguf.quants.dequantize(blocks[start : start + step].reshape(1, -1), kind).reshape(-1, block_weights)
        # torch uses the CPU's instruction for float16, and unlike numpy does not warn about overflow
        torch.from_numpy(weights[start : start + step]).copy_(torch.from_numpy(piece))

    for _ in pool.map(convert, range(0, len(blocks), step)):
        pass
    return weights.reshape(*data.shape[:-1], data.shape[-1] // block_bytes * block_weights)
