"""A bubblewrap process, started ahead of time, that reads its program, or those of a session, from standard input."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import subprocess
import threading
from pathlib import Path

from nad_sandbox.backends.bubblewrap_args import Layout, account_files
from nad_sandbox.backends.launcher import READY_SIZE, START_SECONDS, hit_memory_rlimit, python_version
from nad_sandbox.base import ExecResult, SandboxFailureError, SandboxUnavailableError
from nad_sandbox.isolation.cgroup import ControlGroup, ControlGroups
from nad_sandbox.process.supervisor import kill_group, read_ready_message, supervise
from nad_sandbox.program import Program, harness_name

__all__ = ["BubblewrapProcess"]

_KILLED = 128 + 9
# on a busy machine the kernel needs a while to end hundreds of processes that hold memory
_KILL_SECONDS = 20.0
_NOTE_SECONDS = 1.0


class BubblewrapProcess:
    """A started sandbox whose bootstrap program waits for the program that it will run, or for those of a session.

    Args:
        layout: How the sandbox is made.
        groups: Makes the sandbox's control group; None for a sandbox without one.
        rlimits: Resource limits of each program; see `Program.feed`.

    Raises:
        SandboxUnavailableError: Bubblewrap could not make the sandbox; the message has bubblewrap's last lines.
        OSError: The control group could not be made or entered.
    """

    def __init__(self, layout: Layout, groups: ControlGroups | None, rlimits: dict[str, int]) -> None:
        self._limits = layout.limits
        self._rlimits = rlimits
        self._session = layout.lifetime != "programs"
        self._oom_kills = 0
        self._init = self._monitor = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._group: ControlGroup | None = None
        self._python_version = ""
        self._harnesses: set[str] = set()
        self.goes_on = False
        try:
            if groups is not None:
                self._group = groups.make(layout.limits)
            self._start(layout)
        except BaseException:
            self.remove()
            raise

    def is_usable(self) -> bool:
        """Return whether the sandbox still waits for its program, and its control group exists."""
        assert self._process is not None
        assert self._process.stdout is not None
        if self._group is not None and not self._group.exists():
            return False
        poll = select.poll()
        poll.register(self._process.stdout, select.POLLIN)
        return not poll.poll(0)  # a readable pipe means that the process wrote something unasked, or has ended

    def run(self, program: Program, cancelled: threading.Event) -> ExecResult:
        """Run a program; the sandbox cannot be used again afterwards unless `goes_on` is true.

        Args:
            program: Program to run.
            cancelled: Event that ends the program when set.

        Raises:
            SandboxFailureError: The control group no longer exists.
        """
        assert self._process is not None
        mark = secrets.token_hex(16)
        self.goes_on = False
        harness = harness_name(program.harness) if program.harness else ""
        ended = supervise(
            self._process,
            program.feed(self._rlimits, mark=mark, known=harness in self._harnesses),
            timeout=program.timeout,
            output_bytes=program.output_bytes or self._limits.output_bytes,
            cancelled=cancelled,
            kill=self.kill,
            mark=mark.encode(),
            keep_open=bool(harness) or self._session,
            session=self._session,
        )
        self.goes_on = ended.goes_on
        self._harnesses.add(harness)
        return ended.result(self._ran_out_of_memory, self._python_version)

    def kill(self) -> None:
        """Kill the sandbox's first process, and with it all others; on return all have ended."""
        if self._init >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init, signal.SIGKILL)
            # the first process ends last in its namespace; bubblewrap notices that, and ends too
            _wait_for_end(self._init, _KILL_SECONDS)
            _wait_for_end(self._monitor, _NOTE_SECONDS)
        if self._process is not None:
            kill_group(self._process)

    def remove(self) -> None:
        """Kill every process of the sandbox and remove its control group; may be called twice."""
        self.kill()
        if self._process is not None:
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                with contextlib.suppress(OSError):
                    if stream is not None:
                        stream.close()
        for descriptor in (self._init, self._monitor):
            if descriptor >= 0:
                os.close(descriptor)
        self._init = self._monitor = -1
        if self._group is not None:
            self._group.remove()

    def _start(self, layout: Layout) -> None:
        user = layout.user()
        with contextlib.ExitStack() as descriptors:
            accounts = {name: _readable(content, descriptors) for name, content in account_files(user).items()}
            info, info_end = os.pipe()
            block_end, block = os.pipe()
            descriptors.callback(os.close, info)
            descriptors.callback(os.close, block)
            with contextlib.ExitStack() as theirs:
                theirs.callback(os.close, info_end)
                theirs.callback(os.close, block_end)
                command = layout.command(user=user, info_fd=info_end, block_fd=block_end, account_fds=accounts)
                try:
                    self._process = subprocess.Popen(
                        command,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        env={},
                        cwd="/",
                        pass_fds=(info_end, block_end, *accounts.values()),
                        start_new_session=True,
                    )
                except OSError as error:
                    raise SandboxUnavailableError(f"bubblewrap cannot be run: {error}") from error
            self._monitor = os.pidfd_open(self._process.pid)
            first = _read_child_pid(info)
            if first is not None:
                self._init = os.pidfd_open(first)
                if self._group is not None:
                    self._group.add(first)
                # if the host runs out of memory, the kernel kills programs first
                with contextlib.suppress(OSError):
                    Path(f"/proc/{first}/oom_score_adj").write_text("1000")
                os.write(block, b"\n")
        try:
            message = read_ready_message(self._process, READY_SIZE, START_SECONDS)
        except SandboxFailureError as error:
            raise SandboxUnavailableError(f"bubblewrap made no sandbox: {error}") from error
        self._python_version = python_version(message) or ""

    def _ran_out_of_memory(self, returncode: int | None, stderr: str) -> bool:
        if self._group is None or "memory" not in self._group.folders:
            return hit_memory_rlimit(returncode, stderr)
        try:
            before, self._oom_kills = self._oom_kills, self._group.oom_kills()
        except OSError as error:
            raise SandboxFailureError(f"the control group was removed while a program ran: {error}") from error
        return returncode == _KILLED and self._oom_kills > before


def _wait_for_end(process: int, seconds: float) -> None:
    """Wait until the process behind a descriptor has ended, for at most some seconds."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    poll.poll(seconds * 1000)


def _readable(content: bytes, descriptors: contextlib.ExitStack) -> int:
    """Return a descriptor from which the given bytes can be read."""
    reading, writing = os.pipe()
    descriptors.callback(os.close, reading)
    os.write(writing, content)
    os.close(writing)
    return reading


def _read_child_pid(info: int) -> int | None:
    """Read the id of the sandbox's first process from bwrap; return None when bwrap ended instead."""
    text = b""
    poll = select.poll()
    poll.register(info, select.POLLIN)
    while b"}" not in text:
        part = os.read(info, 4096) if poll.poll(START_SECONDS * 1000) else b""
        if not part:
            return None
        text += part
    return int(json.loads(text)["child-pid"])
