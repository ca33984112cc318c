"""Talking to a program through a container's attached stream."""

from __future__ import annotations

import selectors
import socket
import ssl
import struct
import time
from collections.abc import Iterator

from nad_sandbox.process.capped_output import CappedOutput

__all__ = ["FRAME_HEADER", "STDERR_STREAM", "Exchange", "MarkedOutput"]

READ_CHUNK = 1 << 18
FRAME_HEADER = struct.Struct(">BxxxL")
STDERR_STREAM = 2
_STATUS_DIGITS = 3


class MarkedOutput:
    """One stream of a program, which ends with a mark and three digits: how the program ended.

    The mark is a secret between this process and the sandbox's bootstrap program. It saves waiting until the engine
    has taken the container apart, which takes longer than most programs.

    Args:
        limit: bytes to keep.
        mark: the secret.
    """

    def __init__(self, limit: int, mark: bytes) -> None:
        self.kept = CappedOutput(limit)
        self.status: int | None = None
        self._mark = mark
        self._held = b""

    @property
    def truncated(self) -> bool:
        """Whether more was written than is kept."""
        return self.kept.truncated

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes; what comes after the mark does not count."""
        if self.status is not None:
            return
        text = self._held + bytes(data)
        at = text.find(self._mark)
        # what may be the beginning of a mark is held back
        end = at if at >= 0 else max(0, len(text) - len(self._mark) + 1)
        self.kept.write(text[:end])
        self._held = text[end:]
        digits = self._held[len(self._mark) :]
        if at >= 0 and len(digits) >= _STATUS_DIGITS:
            self.status, self._held = int(digits[:_STATUS_DIGITS]), b""

    def text(self) -> str:
        """What is kept, as text; nothing may be written after this."""
        self.kept.write(self._held)
        self._held = b""
        return self.kept.text()


class Exchange:
    """The attached stream while a job runs: the feed goes in, framed stdout and stderr come out.

    Args:
        connection: the attached socket.
        feed: what goes in.
        output_bytes: how much of each stream is kept.
        mark: what the bootstrap program writes behind each stream when the program has ended; see `MarkedOutput`.
    """

    def __init__(self, connection: socket.socket, feed: Iterator[bytes], output_bytes: int, mark: bytes) -> None:
        self.stdout = MarkedOutput(output_bytes, mark)
        self.stderr = MarkedOutput(output_bytes, mark)
        self._socket = connection
        self._feed = feed
        self._pending = memoryview(b"")
        self._feeding = True
        self._header = b""
        self._frame_left = 0
        self._frame_sink = self.stdout

    @property
    def status(self) -> int | None:
        """How the program ended, once both streams are known to be whole."""
        return self.stdout.status if self.stderr.status is not None else None

    def turn(self, seconds: float) -> bool:
        """Move what can be moved within `seconds`; True when the container has ended."""
        with selectors.DefaultSelector() as selector:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._feeding else 0)
            selector.register(self._socket, wanted)
            for _, events in selector.select(seconds):
                if events & selectors.EVENT_WRITE:
                    self._write()
                if events & selectors.EVENT_READ:
                    return self._read()
        return False

    def drain(self, seconds: float) -> bool:
        """Read what a killed container left; True when its stream has ended."""
        self._feeding = False
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                if self.turn(max(0.0, end - time.monotonic())):
                    return True
        except OSError:
            return True
        return False

    def _read(self) -> bool:
        # several reads: a TLS stream may hold decrypted bytes that no selector sees
        for _ in range(16):
            try:
                data = self._socket.recv(READ_CHUNK)
            except (BlockingIOError, ssl.SSLWantReadError):
                return False
            except ConnectionResetError:
                return True
            if not data:
                return True
            self._take(memoryview(data))
        return False

    def _take(self, data: memoryview) -> None:
        """Sort framed bytes; a frame may span reads, its header too."""
        while len(data):
            if self._frame_left:
                part = data[: self._frame_left]
                self._frame_sink.write(part)
                self._frame_left -= len(part)
                data = data[len(part) :]
                continue
            missing = FRAME_HEADER.size - len(self._header)
            self._header += data[:missing]
            data = data[missing:]
            if len(self._header) == FRAME_HEADER.size:
                kind, self._frame_left = FRAME_HEADER.unpack(self._header)
                self._frame_sink = self.stderr if kind == STDERR_STREAM else self.stdout
                self._header = b""

    def _write(self) -> None:
        while not len(self._pending):
            piece = next(self._feed, None)
            if piece is None:
                self._feeding = False
                return
            self._pending = memoryview(piece)
        try:
            self._pending = self._pending[self._socket.send(self._pending[:READ_CHUNK]) :]
        except (BlockingIOError, ssl.SSLWantWriteError):
            return
        except (BrokenPipeError, ConnectionResetError):
            self._feeding = False
