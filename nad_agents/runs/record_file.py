r"""The file that holds a run's records: an append-only sequence of frames with lengths and checksums.

File: the 8 bytes ``NADRUN`` + version as two digits, then frames. All integers are little-endian.

Frame: the bytes ``\xabREC`` | length of the header, u32 | length of the body, u64 | CRC-32 of the header, u32 | CRC-32
of the 20 bytes before, u32 | header | body.

Header: UTF-8 JSON without NaN. Its key ``sections`` lists the arrays in the body, in order, each with name, codec,
dtype, shape, size in bytes and crc32. The codecs are ``zstd`` (a Zstandard frame of the array's bytes, transposed into
planes: the first byte of every element, then the second, ...) and ``neurons`` (see `nad_agents.runs.neuron_codec`).

A file that ends within a frame, or in zeros, was cut off while the frame was written, and only that last record is
lost. Any other mismatch between bytes and checksum is damage, and is reported with problem and offset.
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

__all__ = [
    "FORMAT_VERSION",
    "RecordFrame",
    "RunError",
    "append_record",
    "create_record_file",
    "read_section",
    "scan_records",
]

FORMAT_VERSION = 2
"""Version of a run's files; readers refuse every other version."""

_MAGIC = b"NADRUN"
_FILE_HEADER = _MAGIC + b"%02d" % FORMAT_VERSION
_FRAME = struct.Struct("<4sIQI")
_FRAME_MAGIC = b"\xabREC"
_FRAME_SIZE = _FRAME.size + 4


class RunError(NADError):
    """A recorded run is absent, damaged, of another format version, or was recorded with other settings."""


@dataclass(frozen=True)
class RecordFrame:
    """The position of one record in the file, with its header.

    Attributes:
        header: The record's header, parsed.
        offset: Offset of the frame from the start of the file, in bytes.
        body: Offset of the frame's body.
        end: Offset of the first byte after the frame.
    """

    header: Mapping[str, Any]
    offset: int
    body: int
    end: int

    @property
    def problem(self) -> str:
        """Id of the problem that the record is about."""
        return str(self.header.get("problem", "?"))


def create_record_file(path: Path) -> None:
    """Create a record file without records; it is on disk when this returns.

    Raises:
        FileExistsError: The file exists already.
    """
    with path.open("xb") as file:
        file.write(_FILE_HEADER)
        _sync(file)


def append_record(
    path: Path, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], neurons: Mapping[str, NDArray[np.int32]]
) -> int:
    """Append a record; it is on disk when this returns.

    Args:
        path: The record file.
        header: JSON-serializable values; the key `sections` is added to them.
        arrays: Arrays to store with the codec ``zstd``.
        neurons: Arrays of int32 [T, k] to store with the codec ``neurons``.

    Returns:
        Number of bytes written.
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
    encoded = json.dumps({**header, "sections": sections}, ensure_ascii=False, allow_nan=False)
    # text of a model may hold half of a surrogate pair, which UTF-8 has no bytes for
    text = encoded.encode("utf-8", "backslashreplace")
    start = _FRAME.pack(_FRAME_MAGIC, len(text), sum(map(len, parts)), zlib.crc32(text))
    frame = b"".join([start, struct.pack("<I", zlib.crc32(start)), text, *parts])
    with path.open("ab") as file:
        file.write(frame)
        _sync(file)
    return len(frame)


def scan_records(path: Path) -> tuple[list[RecordFrame], int | None]:
    """Find every record of a file, reading the headers but not the bodies.

    Returns:
        The records in order, and the offset at which an incomplete last record begins, or None if the file ends with a
        complete one.

    Raises:
        RunError: The file is absent, of another kind or version, or damaged before its last record.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            _check_file_header(path, file.read(len(_FILE_HEADER)))
            frames = list(_frames(path, file, size))
    except OSError as error:
        msg = f"the run {path.parent} cannot be read: {error.strerror or error}; give the folder of a recorded run"
        raise RunError(msg) from error
    end = frames[-1].end if frames else len(_FILE_HEADER)
    return frames, end if end < size else None


def _check_file_header(path: Path, header: bytes) -> None:
    if header == _FILE_HEADER:
        return
    if header.startswith(_MAGIC):
        version = header[len(_MAGIC) :].decode("ascii", "replace")
        msg = f"{path} has format version {version}, this version reads {FORMAT_VERSION:02d}; use a matching nad-agents"
    else:
        msg = f"{path} is no run file: it begins with {header!r}; restore the file, or record again into another folder"
    raise RunError(msg)


def _frames(path: Path, file: BinaryIO, size: int) -> Iterator[RecordFrame]:
    offset, where = len(_FILE_HEADER), "of the first problem"
    while offset < size:
        start = file.read(_FRAME_SIZE)
        if len(start) < _FRAME_SIZE:
            return
        magic, header_size, body_size, crc = _FRAME.unpack_from(start)
        if not any(start) and not any(file.read()):
            # a power failure can leave the length of an append without its bytes
            return
        intact = zlib.crc32(start[: _FRAME.size]) == struct.unpack_from("<I", start, _FRAME.size)[0]
        if magic != _FRAME_MAGIC or not intact:
            msg = f"{path} is damaged: byte {offset}, {where}, begins no record; restore the file, or record again"
            raise RunError(msg)
        body = offset + _FRAME_SIZE + header_size
        if body + body_size > size:
            return
        text = file.read(header_size)
        if zlib.crc32(text) != crc:
            msg = (
                f"{path} is damaged: the header of the record at byte {offset}, {where}, does not fit its checksum; "
                "restore the file, or record again"
            )
            raise RunError(msg)
        frame = RecordFrame(json.loads(text), offset, body, body + body_size)
        yield frame
        offset, where = frame.end, f"after problem {frame.problem!r}"
        file.seek(offset)


def read_section(path: Path, frame: RecordFrame, name: str) -> NDArray[Any]:
    """Read one array of a record, and check it against its checksum.

    Args:
        path: The record file.
        frame: The record.
        name: The array's name in the header.

    Raises:
        RunError: The array is absent or damaged; the message names problem and offset.
    """
    offset = frame.body
    for section in frame.header["sections"]:
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
