"""The base class of all sandboxes: blocking and async methods, argument checks, and a limit on parallel programs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nad_sandbox.base import ExecResult, Limits, SandboxUnavailableError
from nad_sandbox.process.cancellation import await_program
from nad_sandbox.process.supervisor import POLL_SECONDS
from nad_sandbox.program import Program, command_program, harness_program, python_program
from nad_sandbox.session import SESSION_LIMITS, SandboxSession

if TYPE_CHECKING:
    from nad_sandbox.backends.launcher import Lifetime
    from nad_sandbox.checks.report import Report
    from nad_sandbox.session import SessionProcess

__all__ = ["ThreadedSandbox"]


class ThreadedSandbox(ABC):
    """A sandbox whose programs are supervised by the calling thread; async methods use threads of their own.

    Args:
        limits: Limits of each program.
        parallel: Number of programs that may run at once; further calls wait, which does not count against their time
            limit. Default: one per CPU core.

    Raises:
        ValueError: A limit or `parallel` is not positive.
    """

    def __init__(self, *, limits: Limits | None = None, parallel: int | None = None) -> None:
        self.limits = _checked(limits or Limits())
        self.parallel = parallel if parallel is not None else os.cpu_count() or 1
        if self.parallel < 1:
            raise ValueError(f"parallel is {self.parallel}: at least one program must be able to run")
        self._slots = threading.BoundedSemaphore(self.parallel)
        self._executor: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._running: set[threading.Event] = set()
        self._sessions: weakref.WeakSet[SandboxSession] = weakref.WeakSet()
        self._closed = False

    @abstractmethod
    def _run(self, program: Program, cancelled: threading.Event) -> ExecResult:
        """Run a program and wait for it, and end it early once `cancelled` is set; the program is dead on return."""

    def check_available(self) -> None:  # noqa: B027 - a sandbox that is always there has nothing to check
        """Find out whether programs can be run here.

        Raises:
            SandboxUnavailableError: Programs cannot be run; the message says what to do.
        """

    def provide_pytest(self) -> None:  # noqa: B027 - a sandbox that has pytest, or never will, has nothing to do
        """Make pytest available to the tests of programs, if the sandbox needs preparation for that."""

    def exec(
        self,
        cmd: Sequence[str],
        *,
        input: str | bytes | None = None,  # noqa: A002 - the name subprocess uses
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """Run a command, given as a list of arguments and without a shell, and wait for it.

        Args:
            cmd: The executable and its arguments.
            input: Content of its standard input.
            env: Environment variables in addition to the sandbox's own.
            timeout: Limit in wall-clock seconds; default: `Limits.timeout`.

        Raises:
            SandboxUnavailableError: No sandbox can be started.
            SandboxFailureError: The sandbox broke while the program ran.
            TypeError: `cmd` is not a sequence of strings.
            ValueError: An argument is not valid.
        """
        return self.run_program(self._command(cmd, input, env, timeout), threading.Event())

    def run_python(
        self,
        code: str,
        *,
        stdin: str | bytes = b"",
        files: Mapping[str, str | bytes] | None = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """Run Python source as ``__main__`` and wait for it.

        Args:
            code: The source, which is saved as ``main.py`` in the working folder.
            stdin: Content of its standard input.
            files: Relative names and contents of further files in the working folder.
            timeout: Limit in wall-clock seconds; default: `Limits.timeout`.

        Raises:
            SandboxUnavailableError: No sandbox can be started.
            SandboxFailureError: The sandbox broke while the program ran.
            ValueError: An argument is not valid.
        """
        return self.run_program(self._python(code, stdin, files, timeout), threading.Event())

    def run_harness(self, harness: bytes, payload: bytes, *, compiled: bool, timeout: float) -> ExecResult:
        """Run a program of this package that judges others; see `nad_sandbox.harness`.

        Args:
            harness: The program's source, or its marshalled code.
            payload: Content of its standard input.
            compiled: Whether `harness` is marshalled code of the sandbox's Python.
            timeout: Limit in wall-clock seconds.

        Raises:
            SandboxUnavailableError: No sandbox can be started.
            SandboxFailureError: The sandbox broke while the program ran.
        """
        program = harness_program(harness, payload, compiled=compiled, timeout=timeout)
        return self.run_program(program, threading.Event())

    async def aexec(
        self,
        cmd: Sequence[str],
        *,
        input: str | bytes | None = None,  # noqa: A002
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """Do what `exec` does without blocking the event loop; cancelling the task kills the program."""
        return await self._run_in_thread(self._command(cmd, input, env, timeout))

    async def arun_python(
        self,
        code: str,
        *,
        stdin: str | bytes = b"",
        files: Mapping[str, str | bytes] | None = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """Do what `run_python` does without blocking the event loop; cancelling the task kills the program."""
        return await self._run_in_thread(self._python(code, stdin, files, timeout))

    def run_program(self, program: Program, cancelled: threading.Event) -> ExecResult:
        """Run a program and wait for it; the other methods are built on this one.

        Args:
            program: Program to run.
            cancelled: Event that ends the program when set.

        Raises:
            SandboxUnavailableError: No sandbox can be started, or the call was cancelled before the program began.
            SandboxFailureError: The sandbox broke while the program ran.
        """
        with self._lock:
            self._refuse_when_closed()
            self._running.add(cancelled)
        try:
            with self._slot(cancelled):
                self._refuse_when_closed()
                message = program.oversize_message(self.limits)
                result = _cannot_fit(message) if message else self._run(program, cancelled)
        finally:
            with self._lock:
                self._running.discard(cancelled)
        if cancelled.is_set():
            self._refuse_when_closed()
        return result

    def open_session(self, *, limits: Limits | None = None, background: bool = False) -> SandboxSession:
        """Start a sandbox that lives on from command to command, with files that persist until it is closed.

        Sessions share nothing with one another, and do not count toward `parallel`. Closing this object closes them.

        Args:
            limits: Limits of the session: time and output hold for each command, the others for the session as a whole.
                Default: `nad_sandbox.session.SESSION_LIMITS`.
            background: Whether processes that a command leaves behind live on until the session is closed. Otherwise
                they end with the command.

        Raises:
            SandboxUnavailableError: No sandbox can be started, or this kind of sandbox has no sessions.
            ValueError: A limit is not positive.
        """
        self._refuse_when_closed()
        chosen = _checked(limits or SESSION_LIMITS)
        lifetime: Lifetime = "background session" if background else "session"
        session = SandboxSession(lambda: self._session_process(chosen, lifetime), chosen, background=background)
        with self._lock:
            closed = self._closed
            self._sessions.add(session)
        if closed:
            session.close()
            self._refuse_when_closed()
        return session

    async def aopen_session(self, *, limits: Limits | None = None, background: bool = False) -> SandboxSession:
        """Do what `open_session` does without blocking the event loop."""
        return await asyncio.to_thread(self.open_session, limits=limits, background=background)

    def _session_process(self, limits: Limits, lifetime: Lifetime) -> SessionProcess:  # noqa: ARG002 - has none
        raise SandboxUnavailableError(
            f"{type(self).__name__} has no sessions; use DockerSandbox, BubblewrapSandbox or AutoSandbox"
        )

    def verify(self, answer: str, *, prompt: str = "") -> Report:
        """Check an answer with the default checks of `CodeVerifier`: it compiles, loads and passes the examples.

        Args:
            answer: The model's answer, prose and fences included.
            prompt: The prompt that the model answered.
        """
        from nad_sandbox.checks.verifier import CodeVerifier

        return CodeVerifier(self).verify(answer, prompt=prompt)

    def fingerprint(self, answer: str) -> str:
        """Return equal text for answers whose programs differ only in form.

        Args:
            answer: The model's answer, prose and fences included.
        """
        from nad_sandbox.checks.verifier import CodeVerifier

        return CodeVerifier(self).fingerprint(answer)

    def close(self) -> None:
        """Remove everything that the sandbox started; a closed sandbox runs nothing more. May be called twice.

        Programs that other threads still run are ended, and those threads' calls raise `SandboxUnavailableError`.
        """
        with self._lock:
            self._closed = True
            executor, self._executor = self._executor, None
            for cancelled in self._running:
                cancelled.set()
            sessions = list(self._sessions)
        for session in sessions:
            session.close()
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _command(
        self,
        cmd: Sequence[str],
        stdin: str | bytes | None,
        env: Mapping[str, str] | None,
        timeout: float | None,
    ) -> Program:
        seconds = self.limits.timeout if timeout is None else timeout
        return command_program(cmd, stdin=stdin, env=env, timeout=seconds)

    def _python(
        self,
        code: str,
        stdin: str | bytes,
        files: Mapping[str, str | bytes] | None,
        timeout: float | None,
    ) -> Program:
        seconds = self.limits.timeout if timeout is None else timeout
        return python_program(code, stdin=stdin, files=files, timeout=seconds)

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise SandboxUnavailableError(f"this {type(self).__name__} is closed; make a new one")

    @contextlib.contextmanager
    def _slot(self, cancelled: threading.Event) -> Iterator[None]:
        while not self._slots.acquire(timeout=POLL_SECONDS):
            if cancelled.is_set():
                self._refuse_when_closed()
                raise SandboxUnavailableError("cancelled before the program was started")
        try:
            yield
        finally:
            self._slots.release()

    async def _run_in_thread(self, program: Program) -> ExecResult:
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self.parallel, thread_name_prefix="nad-sandbox")
            executor = self._executor
        cancelled = threading.Event()
        future = asyncio.get_running_loop().run_in_executor(executor, self.run_program, program, cancelled)
        return await await_program(future, cancelled)


def _checked(limits: Limits) -> Limits:
    for name, value in vars(limits).items():
        if not value > 0:
            raise ValueError(f"Limits.{name} is {value}: it must be positive")
    return limits


def _cannot_fit(message: str) -> ExecResult:
    """Return the result of a program too big for the scratch space: status 126, a shell's "cannot execute"."""
    return ExecResult(126, "", message, duration=0.0)
