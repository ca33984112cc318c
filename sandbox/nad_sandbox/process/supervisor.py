"""Supervise one child process: feed it, keep a part of its output, and kill it at the deadline."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nad_sandbox.base import ExecResult, SandboxFailureError
from nad_sandbox.process.capped_output import CappedOutput
from nad_sandbox.process.marked_output import MarkedOutput
from nad_sandbox.program import END_PROGRAM

__all__ = ["END_SECONDS", "POLL_SECONDS", "Supervised", "kill_group", "read_ready_message", "supervise"]

POLL_SECONDS = 0.05
"""Seconds between checks whether the program was cancelled."""

END_SECONDS = 10.0
"""Seconds that a session's bootstrap program may take to end a program."""

_READ_CHUNK = 1 << 18
_DRAIN_SECONDS = 0.2


@dataclass(frozen=True)
class Supervised:
    """How a supervised process ended.

    Attributes:
        returncode: Exit status as in `subprocess`, negative for a signal; or the status in the mark, 128 + n for
            signal n.
        duration: Wall-clock seconds since the feed began.
        timed_out: Whether the deadline ended the process.
        cancelled: Whether a cancellation ended the process.
        stdout: The kept part of standard output.
        stderr: The kept part of standard error.
    """

    returncode: int
    duration: float
    timed_out: bool
    cancelled: bool
    stdout: CappedOutput | MarkedOutput
    stderr: CappedOutput | MarkedOutput

    @property
    def goes_on(self) -> bool:
        """Whether the bootstrap program waits for another program."""
        return isinstance(self.stdout, MarkedOutput) and self.stdout.goes_on

    def result(self, out_of_memory: Callable[[int | None, str], bool], python_version: str) -> ExecResult:
        """Return what the caller of the sandbox is told.

        Args:
            out_of_memory: Whether a program with an exit status, None if it was killed, and a standard error ran out of
                memory.
            python_version: Version of the sandbox's Python.
        """
        returncode = None if self.timed_out or self.cancelled else self.returncode
        stderr = self.stderr.text()
        return ExecResult(
            returncode,
            self.stdout.text(),
            stderr,
            duration=self.duration,
            timed_out=self.timed_out,
            oom_killed=out_of_memory(returncode, stderr),
            output_truncated=self.stdout.truncated or self.stderr.truncated,
            python_version=python_version,
        )


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Send SIGKILL to the group that a process leads, unless it was reaped, since its id may have been reused."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def read_ready_message(process: subprocess.Popen[bytes], size: int, seconds: float) -> bytes:
    """Read the ready message, by which the bootstrap program reports that it waits for a program.

    Args:
        process: The bootstrap program, or the process that started it.
        size: Size of the message in bytes.
        seconds: Seconds that the message may take.

    Raises:
        SandboxFailureError: The process ended, or wrote nothing in time; the message has its last lines of output.
    """
    assert process.stdout is not None
    said = b""
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while len(said) < size and selector.select(max(0.0, end - time.monotonic())):
            part = os.read(process.stdout.fileno(), size - len(said))
            if not part:
                break
            said += part
    if len(said) == size:
        return said
    kill_group(process)
    _, stderr = process.communicate()
    words = stderr.decode("utf-8", "replace").strip().splitlines()
    reason = words[-1] if words else f"it said nothing within {seconds} s"
    raise SandboxFailureError(f"the sandbox process did not start: {reason}")


def supervise(
    process: subprocess.Popen[bytes],
    feed: Iterator[bytes],
    *,
    timeout: float,
    output_bytes: int,
    cancelled: threading.Event,
    kill: Callable[[], None],
    mark: bytes | None = None,
    keep_open: bool = False,
    session: bool = False,
) -> Supervised:
    """Feed a process and wait until its program has ended.

    Without a mark, the process and its group are dead on return, whatever happens. With a mark, the program is dead,
    and the caller must remove the rest of the sandbox.

    Args:
        process: Process that leads its own group and has pipes for all three streams.
        feed: Bytes for the process's standard input, in pieces.
        timeout: Wall-clock limit from now, in seconds.
        output_bytes: Number of bytes to keep of stdout and of stderr, each.
        cancelled: Event that ends the process when set.
        kill: Function that ends the process and everything that it started.
        mark: Mark that the bootstrap program writes after each output once the program has ended; see `MarkedOutput`.
        keep_open: Whether to leave the pipes open for another program.
        session: Whether the bootstrap program can be asked to end the program, so that the sandbox lives on.
    """
    started = time.monotonic()
    stdout, stderr = _collector(output_bytes, mark), _collector(output_bytes, mark)
    timed_out = was_cancelled = False
    status: int | None = None
    with _Streams(process, feed, stdout, stderr, keep_open) as streams:
        try:
            while not streams.exited():
                left = started + timeout - time.monotonic()
                if left <= 0:
                    timed_out = True
                    break
                if cancelled.is_set():
                    was_cancelled = True
                    break
                streams.turn(min(left, POLL_SECONDS))
                status = _told_status(stdout, stderr)
                if status is not None:
                    break
        finally:
            duration = time.monotonic() - started
            if status is None and session and streams.ask_to_end():
                while status is None and not streams.exited() and time.monotonic() < started + duration + END_SECONDS:
                    streams.turn(POLL_SECONDS)
                    status = _told_status(stdout, stderr)
            if status is None:
                kill()
                process.wait()
        if status is None:
            streams.drain(_DRAIN_SECONDS)
            status = _told_status(stdout, stderr)
    returncode = process.returncode if status is None else status
    return Supervised(returncode, duration, timed_out, was_cancelled, stdout, stderr)


def _collector(output_bytes: int, mark: bytes | None) -> CappedOutput | MarkedOutput:
    return CappedOutput(output_bytes) if mark is None else MarkedOutput(output_bytes, mark)


def _told_status(stdout: CappedOutput | MarkedOutput, stderr: CappedOutput | MarkedOutput) -> int | None:
    """Return the exit status with which both streams end; None while one of them has not ended."""
    if isinstance(stdout, MarkedOutput) and isinstance(stderr, MarkedOutput) and stderr.status is not None:
        return stdout.status
    return None


class _Streams:
    """Watches the three pipes of a process and its end with one selector."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        feed: Iterator[bytes],
        stdout: CappedOutput | MarkedOutput,
        stderr: CappedOutput | MarkedOutput,
        keep_open: bool,
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._feed = feed
        self._keep_open = keep_open
        self._pending = memoryview(b"")
        self._stdin = process.stdin
        self._pidfd = os.pidfd_open(process.pid) if hasattr(os, "pidfd_open") else -1
        self._selector = selectors.DefaultSelector()
        for stream, collector in ((process.stdout, stdout), (process.stderr, stderr)):
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, selectors.EVENT_READ, collector)
        os.set_blocking(self._stdin.fileno(), False)
        self._selector.register(self._stdin, selectors.EVENT_WRITE)
        if self._pidfd >= 0:
            self._selector.register(self._pidfd, selectors.EVENT_READ)

    def __enter__(self) -> _Streams:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):
                if not self._keep_open:
                    stream.close()  # type: ignore[union-attr] # all three are pipes, see __init__

    def exited(self) -> bool:
        """Return whether the process has ended; it stays a zombie, so that its group's id is not reused."""
        ended = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return ended is not None

    def turn(self, seconds: float) -> bool:
        """Transfer input and output; return whether any pipe became ready within `seconds`."""
        events = self._selector.select(seconds)
        for key, _ in events:
            if key.fileobj is self._stdin:
                self._write()
            elif key.data is not None:
                self._read(key.fd, key)
        return bool(events)

    def ask_to_end(self) -> bool:
        """Ask the bootstrap program to end its program; return False if the program has not taken all of its input."""
        if self._stdin in self._selector.get_map():
            return False
        with contextlib.suppress(BrokenPipeError):
            os.write(self._stdin.fileno(), END_PROGRAM)
        return True

    def drain(self, seconds: float) -> None:
        """Read the output that the dead process left in its pipes, until they are closed or `seconds` have passed."""
        if self._pidfd >= 0:
            self._selector.unregister(self._pidfd)
        self._close_feed()
        end = time.monotonic() + seconds
        # a daemonized grandchild may hold the pipes open, so this does not wait for their end
        while self._selector.get_map() and time.monotonic() < end:
            if not self.turn(max(0.0, end - time.monotonic())):
                return

    def _read(self, fd: int, key: selectors.SelectorKey) -> None:
        try:
            data = os.read(fd, _READ_CHUNK)
        except BlockingIOError:
            return
        if data:
            key.data.write(data)
        else:
            self._selector.unregister(key.fileobj)

    def _write(self) -> None:
        while not len(self._pending):
            piece = next(self._feed, None)
            if piece is None:
                self._close_feed()
                return
            self._pending = memoryview(piece)
        try:
            self._pending = self._pending[os.write(self._stdin.fileno(), self._pending[:_READ_CHUNK]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._close_feed()

    def _close_feed(self) -> None:
        if not self._stdin.closed and self._stdin in self._selector.get_map():
            self._selector.unregister(self._stdin)
            if not self._keep_open:
                self._stdin.close()
