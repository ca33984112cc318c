"""Read the header of a GGUF file: check that the file is complete, and extract what the conversion needs."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nad_agents.exceptions import ModelLoadError
from nad_agents.models.error_text import one_line_error

if TYPE_CHECKING:
    from nad_agents.models.gguf_reading import HeaderReader

__all__ = ["CONVERSION_VERSION", "GGUFMetadata", "check_magic", "read_header"]

CONVERSION_VERSION = 3
"""Part of every cache key; it is raised when the conversion's result changes."""

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)

_VOCABULARY = tuple(f"tokenizer.ggml.{part}" for part in ("tokens", "merges", "scores", "token_type"))
"""Keys whose values have one entry per token."""


@dataclass(frozen=True)
class GGUFMetadata:
    """The parts of a GGUF file's header that the conversion needs.

    Attributes:
        architecture: llama.cpp's name of the architecture.
        pre_tokenizer: llama.cpp's name of the pre-tokenizer; empty if the file names none.
        eos_token_ids: End tokens that the file names (end of text, of turn, of message).
        n_splits: Number of files that the model is split into.
        quantized: Whether any matrix is stored in quantized blocks.
        matrix_type: llama.cpp's name of the type that most matrices have.
        parameters: Number of weights.
        hyperparameters: The values of the architecture's keys, such as "rope.freq_base".
    """

    architecture: str
    pre_tokenizer: str
    eos_token_ids: tuple[int, ...]
    n_splits: int
    quantized: bool
    matrix_type: str
    parameters: int
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)


def check_magic(path: Path) -> None:
    """Check the first eight bytes of a file.

    Raises:
        ModelLoadError: The file is not GGUF, or of a version that cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror or error}"
        raise ModelLoadError(msg) from error
    if head[:4] != _MAGIC:
        msg = f"{path} is not a GGUF file (it starts with {head[:4]!r}); give a GGUF file, a model folder or a hub id"
        raise ModelLoadError(msg)
    if len(head) < 8:
        msg = f"{path} is a truncated GGUF file of {len(head)} bytes; download it again"
        raise ModelLoadError(msg)
    version = struct.unpack("<I", head[4:])[0]
    if version not in _VERSIONS:
        msg = f"{path} is GGUF version {version}, and versions 2 and 3 can be read; convert it with a newer llama.cpp"
        raise ModelLoadError(msg)


def read_header(path: Path) -> tuple[HeaderReader, GGUFMetadata]:
    """Read a GGUF file's header, and check that the file is long enough for every tensor.

    Returns:
        The reader, which the conversion needs again, and the parts of the header.

    Raises:
        ModelLoadError: The file is truncated, its header is damaged, or it holds no weights.
    """
    from nad_agents.models.gguf_reading import HeaderReader

    try:
        reader = HeaderReader(path)
        values: Mapping[str, Any] = {
            key: field.contents() for key, field in reader.fields.items() if not key.startswith(_VOCABULARY)
        }
        types = Counter(tensor.tensor_type.name for tensor in reader.tensors if len(tensor.shape) > 1)
        parameters = sum(int(tensor.n_elements) for tensor in reader.tensors)
        architecture = str(values["general.architecture"])
    except (ValueError, KeyError, IndexError, UnicodeDecodeError, OverflowError, OSError) as error:
        msg = f"{path} is truncated or damaged ({one_line_error(error)}); download it again"
        raise ModelLoadError(msg) from error
    if not types:
        msg = f"{path} holds no weights (a vocabulary-only file); give a GGUF file with weights"
        raise ModelLoadError(msg)
    ends = (values.get(f"tokenizer.ggml.{kind}_token_id") for kind in ("eos", "eot", "eom"))
    metadata = GGUFMetadata(
        architecture=architecture,
        pre_tokenizer=str(values.get("tokenizer.ggml.pre", "")),
        eos_token_ids=tuple(dict.fromkeys(int(end) for end in ends if end is not None)),
        n_splits=int(values.get("split.count", 1) or 1),
        quantized=any(kind not in {"F32", "F16", "BF16"} for kind in types),
        matrix_type=types.most_common(1)[0][0],
        parameters=parameters,
        hyperparameters={
            key.removeprefix(f"{architecture}."): value
            for key, value in values.items()
            if key.startswith(f"{architecture}.")
        },
    )
    return reader, metadata
