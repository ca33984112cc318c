r"""The container of a run's records: one append-only file of frames, each with lengths and checksums.

File: the 8 bytes ``NADRUN`` + version as two digits, then frames. All integers are little-endian.

Frame: the bytes ``\xabREC`` | length of the head, u32 | length of the body, u64 | CRC-32 of the head, u32 | CRC-32 of
the 20 bytes before, u32 | head | body.

Head: UTF-8 JSON, free of NaN. Its key ``sections`` lists the body's arrays, in order: name, codec, dtype, shape, size
(bytes) and crc32. Codecs: ``zstd`` (a Zstandard frame of the array's bytes, transposed into planes: first byte of every
element, then second, ...) and ``neurons`` (see `nad_agents.runs.neuron_codec`).

A frame is complete or it is not: a file that ends within a frame, or in zeros, was cut while it was written, and only
that last record is lost. Anything else that does not fit its checksum is damage, reported with problem and offset.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nad_agents.exceptions import NADError
from nad_agents.runs.compression import CompressionError, compress, decompress
from nad_agents.runs.neuron_codec import decode_neurons, encode_neurons

__all__ = ["FORMAT_VERSION", "Frame", "RunError", "append_frame", "create_file", "read_section", "scan_frames"]

FORMAT_VERSION = 2
"""Version of the files; a reader refuses any other."""

_MAGIC = b"NADRUN"
_FILE_HEADER = _MAGIC + b"%02d" % FORMAT_VERSION
_FRAME = struct.Struct("<4sIQI")
_FRAME_MAGIC = b"\xabREC"
_FRAME_SIZE = _FRAME.size + 4


class RunError(NADError):
    """A recorded run is absent, damaged, of another version, or was recorded with other settings."""


@dataclass(frozen=True)
class Frame:
    """Where a record lies.

    Attributes:
        head: its JSON.
        offset: of the frame, bytes from the start of the file.
        body: offset of its body.
        end: offset behind it.
    """

    head: Mapping[str, Any]
    offset: int
    body: int
    end: int

    @property
    def problem(self) -> str:
        """The problem's id."""
        return str(self.head.get("problem", "?"))


def create_file(path: Path) -> None:
    """Create an empty record file, durable before this returns.

    Raises:
        FileExistsError: there is one.
    """
    with path.open("xb") as file:
        file.write(_FILE_HEADER)
        _sync(file)


def append_frame(
    path: Path, head: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], neurons: Mapping[str, NDArray[np.int32]]
) -> int:
    """Append a record, durable before this returns.

    Args:
        path: the record file.
        head: JSON-serialisable; `sections` is added.
        arrays: stored with the codec ``zstd``.
        neurons: int32 [T, k] each, stored with the codec ``neurons``.

    Returns:
        Bytes written.
    """
    parts, sections = [], []
    for name, array in (*arrays.items(), *neurons.items()):
        codec = "neurons" if name in neurons else "zstd"
        data = encode_neurons(array) if codec == "neurons" else _encode_array(array)
        parts.append(data)
        dtype = array.dtype.newbyteorder("<").str
        sections.append(
            {"name": name, "codec": codec, "dtype": dtype, "shape": list(array.shape), "size": len(data)}
            | {"crc32": zlib.crc32(data)}
        )
    encoded = json.dumps({**head, "sections": sections}, ensure_ascii=False, allow_nan=False)
    # text of a model may hold half of a surrogate pair, which UTF-8 has no bytes for
    text = encoded.encode("utf-8", "backslashreplace")
    start = _FRAME.pack(_FRAME_MAGIC, len(text), sum(map(len, parts)), zlib.crc32(text))
    frame = b"".join([start, struct.pack("<I", zlib.crc32(start)), text, *parts])
    with path.open("ab") as file:
        file.write(frame)
        _sync(file)
    return len(frame)


def scan_frames(path: Path) -> tuple[list[Frame], int | None]:
    """Find every record; bodies are not read.

    Returns:
        The records in order, and the offset at which an incomplete last record begins, None when there is none.

    Raises:
        RunError: the file is absent, of another kind or version, or damaged within.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            _check_header(path, file.read(len(_FILE_HEADER)))
            frames = list(_frames(path, file, size))
    except OSError as error:
        msg = f"the run {path.parent} cannot be read: {error.strerror or error}; give the folder of a recorded run"
        raise RunError(msg) from error
    end = frames[-1].end if frames else len(_FILE_HEADER)
    return frames, end if end < size else None


def _check_header(path: Path, header: bytes) -> None:
    if header == _FILE_HEADER:
        return
    if header.startswith(_MAGIC):
        version = header[len(_MAGIC) :].decode("ascii", "replace")
        msg = f"{path} has format version {version}, this version reads {FORMAT_VERSION:02d}; use a matching nad-agents"
    else:
        msg = f"{path} is no run file: it begins with {header!r}"
    raise RunError(msg)


def _frames(path: Path, file: BinaryIO, size: int) -> Iterator[Frame]:
    offset, where = len(_FILE_HEADER), "of the first problem"
    while offset < size:
        start = file.read(_FRAME_SIZE)
        if len(start) < _FRAME_SIZE:
            return
        magic, head_size, body_size, crc = _FRAME.unpack_from(start)
        if not any(start) and not any(file.read()):
            # a power failure can leave the length of an append without its bytes
            return
        intact = zlib.crc32(start[: _FRAME.size]) == struct.unpack_from("<I", start, _FRAME.size)[0]
        if magic != _FRAME_MAGIC or not intact:
            msg = f"{path} is damaged: byte {offset}, {where}, begins no record; restore the file, or record again"
            raise RunError(msg)
        body = offset + _FRAME_SIZE + head_size
        if body + body_size > size:
            return
        text = file.read(head_size)
        if zlib.crc32(text) != crc:
            msg = (
                f"{path} is damaged: the head of the record at byte {offset}, {where}, does not fit its checksum; "
                "restore the file, or record again"
            )
            raise RunError(msg)
        frame = Frame(json.loads(text), offset, body, body + body_size)
        yield frame
        offset, where = frame.end, f"after problem {frame.problem!r}"
        file.seek(offset)


def read_section(path: Path, frame: Frame, name: str) -> NDArray[Any]:
    """Read one array of a record, checking its checksum.

    Raises:
        RunError: the array is absent or damaged; the message names problem and offset.
    """
    offset = frame.body
    for section in frame.head["sections"]:
        if section["name"] != name:
            offset += section["size"]
            continue
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(section["size"])
        problem = ""
        if zlib.crc32(data) != section["crc32"]:
            problem = "does not fit its checksum"
        else:
            try:
                if section["codec"] == "neurons":
                    return decode_neurons(data)
                return _decode_array(data, np.dtype(section["dtype"]), section["shape"])
            except (ValueError, CompressionError) as error:
                problem = f"cannot be decoded ({error})"
        msg = (
            f"{path} is damaged: {name!r} of problem {frame.problem!r} at byte {offset} {problem}; "
            "restore the file, or record the problem again"
        )
        raise RunError(msg)
    msg = f"{path}: the record of problem {frame.problem!r} at byte {frame.offset} has no {name!r}"
    raise RunError(msg)


def _encode_array(array: NDArray[Any]) -> bytes:
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    planes = little.reshape(-1, 1).view(np.uint8).T
    return compress(planes.tobytes())


def _decode_array(data: bytes, dtype: np.dtype[Any], shape: list[int]) -> NDArray[Any]:
    planes = np.frombuffer(decompress(data), dtype=np.uint8)
    elements = np.ascontiguousarray(planes.reshape(dtype.itemsize, -1).T)
    return elements.view(dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
