"""Read and write the attached stream of a container: its input goes in as bytes, its output comes out in frames."""

from __future__ import annotations

import selectors
import socket
import ssl
import struct
import time
from collections.abc import Iterator

from nad_sandbox.process.marked_output import MarkedOutput
from nad_sandbox.program import END_PROGRAM

__all__ = ["FRAME_HEADER", "STDERR_STREAM", "ContainerStream"]

READ_CHUNK = 1 << 18
FRAME_HEADER = struct.Struct(">BxxxL")
STDERR_STREAM = 2


class ContainerStream:
    """Feeds a container's program and collects its output, without blocking.

    Args:
        connection: The attached socket.
        feed: The bytes that the bootstrap program reads.
        output_bytes: Number of bytes to keep of each of stdout and stderr.
        mark: Mark that the bootstrap program writes behind each stream when the program has ended; see `MarkedOutput`.
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
        """The program's exit status, once both streams are known to be complete; None until then."""
        return self.stdout.status if self.stderr.status is not None else None

    def turn(self, seconds: float) -> bool:
        """Transfer input and output for at most `seconds`; return whether the container has ended."""
        with selectors.DefaultSelector() as selector:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._feeding else 0)
            selector.register(self._socket, wanted)
            for _, events in selector.select(seconds):
                if events & selectors.EVENT_WRITE:
                    self._write()
                if events & selectors.EVENT_READ:
                    return self._read()
        return False

    def ask_to_end(self) -> bool:
        """Ask the bootstrap program to end its program; return False if the program has not taken all of its input."""
        if self._feeding:
            return False
        self._socket.send(END_PROGRAM)
        return True

    def drain(self, seconds: float) -> bool:
        """Read the output that a killed container left; return whether its stream has ended."""
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
        # several reads are needed, since a TLS stream may hold decrypted bytes that no selector sees
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
        """Add framed bytes to their streams; a frame, and its header too, may span several reads."""
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
