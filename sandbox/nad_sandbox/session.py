"""A sandbox that lives on from command to command, with a working folder that persists until it is closed."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Protocol, Self

from nad_sandbox.base import ExecResult, Limits, SandboxFailureError, SandboxUnavailableError
from nad_sandbox.isolation.policy import WORKDIR
from nad_sandbox.process.cancellation import await_program
from nad_sandbox.program import Program, command_program
from nad_sandbox.session_files import check_transfer, checked_path, download_program, downloaded_content, upload_program

__all__ = ["SESSION_LIMITS", "SandboxSession", "SessionProcess"]

SESSION_LIMITS = Limits(
    timeout=120.0, memory_mb=1024, pids=128, nofile=1024, fsize_mb=128, tmpfs_mb=256, output_bytes=2**20
)
"""Limits of a session unless told otherwise: time and output of each command, everything else of the whole session."""


class SessionProcess(Protocol):
    """What a backend starts for a session: a sandbox whose bootstrap program runs command after command."""

    goes_on: bool

    def run(self, program: Program, cancelled: threading.Event) -> ExecResult:
        """Run one program; `goes_on` tells afterwards whether another may follow."""
        ...

    def remove(self) -> None:
        """Remove the sandbox with everything in it."""
        ...


class SandboxSession:
    r"""A sandbox of its own for a series of commands that share files, such as those of a coding agent.

    Sessions are opened by `DockerSandbox.open_session` and its likes. The isolation is that of the sandbox: no network,
    no files of the host, no privileges. What persists is the scratch space below ``/tmp``, with the working folder
    `workdir`, until the session is closed or the process that opened it ends; then nothing is left.

    Commands of one session run one after the other, in the order in which they were asked for; waiting does not count
    against their time limit. A command that hits its time limit is killed, and the session lives on. Files are written
    and read inside the sandbox by the user that commands run as, so no path and no symbolic link leads to a file of the
    host or of another session.

    >>> from nad_sandbox import auto_sandbox
    >>> with auto_sandbox() as sandbox, sandbox.open_session() as session:  # doctest: +SKIP
    ...     session.upload("hello.py", b"print('hello')")
    ...     session.execute("python3 hello.py").stdout
    'hello\n'

    Args:
        make: Function that starts the sandbox.
        limits: Limits of the session.
        background: Whether the sandbox lets processes live on that a command leaves behind.

    Attributes:
        id: A name that no other session has.
        limits: Limits of the session.
        background: Whether processes that a command leaves behind live on until the session is closed.
        workdir: Path of the working folder inside the sandbox.
    """

    def __init__(self, make: Callable[[], SessionProcess], limits: Limits, *, background: bool = False) -> None:
        self.id = f"nad-session-{secrets.token_hex(8)}"
        self.limits = limits
        self.background = background
        self.workdir = WORKDIR
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._running: set[threading.Event] = set()
        self._closed = False
        self._ended = ""
        # one thread starts the sandbox and runs its commands: it orders them, and bubblewrap's processes die with the
        # thread that started them
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nad-sandbox-session")
        starting = self._thread.submit(make)
        try:
            self._process = starting.result()
        except BaseException:
            starting.add_done_callback(_remove_unused)
            self._thread.shutdown(wait=False)
            raise
        self._end = weakref.finalize(self, _end, self._process, self._thread, self._pid)

    def execute(
        self,
        command: str | Sequence[str],
        *,
        stdin: str | bytes = b"",
        cwd: str = ".",
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        merge_output: bool = False,
    ) -> ExecResult:
        """Run a command and wait for it.

        Args:
            command: Text for the shell ``/bin/sh``, or a program with its arguments, which needs no shell.
            stdin: Content of the command's standard input.
            cwd: The folder in which the command starts, absolute or as seen from `workdir`.
            env: Environment variables in addition to the sandbox's own.
            timeout: Limit in wall-clock seconds; default: `Limits.timeout` of the session.
            merge_output: Whether standard error goes to `ExecResult.stdout`, in the order of writing.

        Returns:
            How the command ended. One that cannot be started has status 126 or 127, as in a shell.

        Raises:
            SandboxUnavailableError: The session is closed, or belongs to the process that this one was forked from.
            SandboxFailureError: The sandbox has broken, and its files are lost; open a new session.
            TypeError: `command` is neither text nor a sequence of strings.
            ValueError: An argument is not valid.
        """
        return self._run(self._command(command, stdin, cwd, env, timeout, merge_output))

    def upload(self, path: str, content: bytes) -> None:
        """Write a file; folders above it are made, and the content of a file that exists is replaced.

        When the content does not fit, no file is left.

        Args:
            path: Where to write it, absolute or as seen from `workdir`.
            content: Its content.

        Raises:
            OSError: The sandbox's system refuses, with its own number and text; for example `PermissionError` outside
                ``/tmp``, `IsADirectoryError`, or "No space left on device" when `Limits.tmpfs_mb` is used up.
            SandboxError: As in `execute`.
            ValueError: `path` is empty or no valid name.
        """
        check_transfer(self._run(upload_program(path, content)), path)

    def download(self, path: str, *, max_bytes: int | None = None) -> bytes:
        """Return the content of a file.

        Args:
            path: The file, absolute or as seen from `workdir`.
            max_bytes: Largest size to accept; default: `Limits.fsize_mb`.

        Raises:
            OSError: The sandbox's system refuses, with its own number and text; for example `FileNotFoundError`,
                `IsADirectoryError`, or "File too large" beyond `max_bytes`.
            SandboxError: As in `execute`.
            ValueError: `path` is empty or no valid name.
        """
        return downloaded_content(self._run(download_program(path, self._most(max_bytes))), path)

    async def aexecute(
        self,
        command: str | Sequence[str],
        *,
        stdin: str | bytes = b"",
        cwd: str = ".",
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        merge_output: bool = False,
    ) -> ExecResult:
        """Do what `execute` does without blocking the event loop; cancelling the task kills the command."""
        return await self._arun(self._command(command, stdin, cwd, env, timeout, merge_output))

    async def aupload(self, path: str, content: bytes) -> None:
        """Do what `upload` does without blocking the event loop."""
        check_transfer(await self._arun(upload_program(path, content)), path)

    async def adownload(self, path: str, *, max_bytes: int | None = None) -> bytes:
        """Do what `download` does without blocking the event loop."""
        return downloaded_content(await self._arun(download_program(path, self._most(max_bytes))), path)

    def close(self) -> None:
        """End a running command, and remove the sandbox with all its files; may be called twice."""
        with self._lock:
            self._closed = True
            for cancelled in self._running:
                cancelled.set()
        removing = self._end()
        if removing is not None:
            removing.result()

    async def aclose(self) -> None:
        """Do what `close` does without blocking the event loop."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _command(
        self,
        command: str | Sequence[str],
        stdin: str | bytes,
        cwd: str,
        env: Mapping[str, str] | None,
        timeout: float | None,
        merge_output: bool,
    ) -> Program:
        seconds = self.limits.timeout if timeout is None else timeout
        argv = ["/bin/sh", "-c", command] if isinstance(command, str) else command
        program = command_program(argv, stdin=stdin, env=env, timeout=seconds)
        return replace(program, folder=checked_path(cwd), merge_output=merge_output)

    def _most(self, max_bytes: int | None) -> int:
        return self.limits.fsize_mb * 2**20 if max_bytes is None else max_bytes

    def _run(self, program: Program) -> ExecResult:
        cancelled = threading.Event()
        future = self._submit(program, cancelled)
        try:
            return future.result()
        except BaseException:
            # an interrupt ends the command too
            cancelled.set()
            raise

    async def _arun(self, program: Program) -> ExecResult:
        cancelled = threading.Event()
        return await await_program(asyncio.wrap_future(self._submit(program, cancelled)), cancelled)

    def _submit(self, program: Program, cancelled: threading.Event) -> Future[ExecResult]:
        with self._lock:
            self._refuse_when_closed()
            self._running.add(cancelled)
            return self._thread.submit(self._run_next, program, cancelled)

    def _run_next(self, program: Program, cancelled: threading.Event) -> ExecResult:
        """Run a program in the session's thread."""
        try:
            if cancelled.is_set():
                self._refuse_when_closed()
                raise SandboxUnavailableError("cancelled before the command was started")
            if self._ended:
                raise SandboxFailureError(self._ended)
            message = program.oversize_message(self.limits) if not program.harness else None
            if message:
                return ExecResult(126, "", message, duration=0.0)
            try:
                result = self._process.run(program, cancelled)
            finally:
                if not self._process.goes_on:
                    self._ended = "the sandbox of this session has ended, and its files with it; open a new session"
        finally:
            with self._lock:
                self._running.discard(cancelled)
        if cancelled.is_set():
            self._refuse_when_closed()
        return result

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise SandboxUnavailableError("this session is closed; open a new one")
        if self._pid != os.getpid():
            raise SandboxUnavailableError("this session belongs to the process that this one was forked from; open one")


def _remove_unused(starting: Future[SessionProcess]) -> None:
    """Remove a sandbox whose session was given up while it started."""
    if not starting.cancelled() and starting.exception() is None:
        starting.result().remove()


def _end(process: SessionProcess, thread: ThreadPoolExecutor, pid: int) -> Future[None] | None:
    """Have a session's thread remove the sandbox after the running command; a forked process leaves it alone."""
    if pid != os.getpid():
        return None
    try:
        removing = thread.submit(process.remove)
    except RuntimeError:  # the interpreter ends, and has ended the thread
        process.remove()
        return None
    thread.shutdown(wait=False)
    return removing
