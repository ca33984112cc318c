"""Read what the supervisor sends on standard input: headers, and the content of files."""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FEED_CHUNK = 1 << 18


def read_exactly(size: int) -> bytes:
    """Read exactly `size` bytes of the feed; end the process when the feed is closed."""
    parts = []
    while size:
        part = os.read(0, min(size, FEED_CHUNK))
        if not part:
            os._exit(0)  # the feed was closed before a program came, so this sandbox is not needed
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def read_header() -> dict[str, Any]:
    """Read the header of the next program."""
    first = read_exactly(1)
    while first != b"\0":  # no header is so long; this byte asked to end a program that had just ended
        first = read_exactly(1)
    return json.loads(read_exactly(int.from_bytes(read_exactly(7), "big")))  # type: ignore[no-any-return]


def receive_file(path: str, size: int) -> None:
    """Write the next `size` bytes of the feed to a file."""
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    while size:
        part = read_exactly(min(size, FEED_CHUNK))
        size -= len(part)
        while part:
            part = part[os.write(target, part) :]
    os.close(target)
