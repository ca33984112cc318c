"""Choose a backend: Docker where an engine answers, else bubblewrap, and never the one without isolation."""

from __future__ import annotations

import threading
from typing import Literal

from nad_sandbox.backends.bubblewrap import BubblewrapSandbox
from nad_sandbox.backends.docker import DockerSandbox
from nad_sandbox.base import ExecResult, Limits, SandboxUnavailableError
from nad_sandbox.program import Program
from nad_sandbox.session import SandboxSession
from nad_sandbox.threaded import ThreadedSandbox

__all__ = ["AutoSandbox", "SandboxKind", "auto_sandbox"]

SandboxKind = Literal["auto", "docker", "bubblewrap"]


def auto_sandbox(
    kind: SandboxKind = "auto",
    *,
    limits: Limits | None = None,
    parallel: int | None = None,
    prestart: int | None = None,
    build: bool = True,
) -> DockerSandbox | BubblewrapSandbox:
    """Return a sandbox that is known to work: `DockerSandbox` where an engine answers, else `BubblewrapSandbox`.

    Args:
        kind: "auto", or the only backend to try.
        limits: Limits of each program.
        parallel: Number of programs that may run at once; default: one per CPU core.
        prestart: Number of sandboxes to keep ready; default: the value of `parallel`. With sessions alone, 0 will do.
        build: Build the project's image when the engine does not have it, which takes up to a minute, once.

    Raises:
        SandboxUnavailableError: No backend works; the message gives the reason and remedy for each.
        ValueError: `kind` is unknown, or a limit, `parallel` or `prestart` is out of range.
    """
    candidates: dict[str, DockerSandbox | BubblewrapSandbox] = {
        "docker": DockerSandbox(limits=limits, parallel=parallel, prestart=prestart, build=build),
        "bubblewrap": BubblewrapSandbox(limits=limits, parallel=parallel, prestart=prestart),
    }
    if kind not in {"auto", *candidates}:
        raise ValueError(f"kind is {kind!r}; choose 'auto', 'docker' or 'bubblewrap'")
    reasons = []
    for name, sandbox in candidates.items():
        if kind not in {"auto", name}:
            continue
        try:
            sandbox.start() if isinstance(sandbox, DockerSandbox) else sandbox.check_available()
        except SandboxUnavailableError as error:
            sandbox.close()
            reasons.append(f"{name}: {error}")
        else:
            return sandbox
    raise SandboxUnavailableError("there is no sandbox here, and code is not run without one. " + ". ".join(reasons))


class AutoSandbox(ThreadedSandbox):
    """A sandbox that chooses its backend with `auto_sandbox` when the first program is run.

    Args:
        kind: "auto", or the only backend to try.
        limits: Limits of each program.
        parallel: Number of programs that may run at once; default: one per CPU core.
        prestart: Number of sandboxes to keep ready; default: the value of `parallel`.
        build: Build the project's image when a Docker engine does not have it.

    Raises:
        ValueError: A limit, `parallel` or `prestart` is out of range.
    """

    def __init__(
        self,
        kind: SandboxKind = "auto",
        *,
        limits: Limits | None = None,
        parallel: int | None = None,
        prestart: int | None = None,
        build: bool = True,
    ) -> None:
        super().__init__(limits=limits, parallel=parallel)
        if prestart is not None and prestart < 0:
            raise ValueError(f"prestart is {prestart}: it must be 0 or more")
        self._kind = kind
        self._prestart = prestart
        self._build = build
        self._chosen: DockerSandbox | BubblewrapSandbox | None = None
        self._choosing = threading.Lock()

    def check_available(self) -> None:
        """Choose a backend.

        Raises:
            SandboxUnavailableError: No backend works; the message gives the reason and remedy for each.
        """
        self._backend()

    def provide_pytest(self) -> None:
        """Make pytest available to the tests of programs."""
        self._backend().provide_pytest()

    def open_session(self, *, limits: Limits | None = None, background: bool = False) -> SandboxSession:
        """Start a sandbox that lives on from command to command; see `DockerSandbox.open_session`."""
        return self._backend().open_session(limits=limits, background=background)

    def close(self) -> None:
        """Remove everything that the sandbox started; may be called twice."""
        super().close()
        with self._choosing:
            chosen, self._chosen = self._chosen, None
        if chosen is not None:
            chosen.close()

    def _run(self, program: Program, cancelled: threading.Event) -> ExecResult:
        return self._backend().run_program(program, cancelled)

    def _backend(self) -> DockerSandbox | BubblewrapSandbox:
        with self._choosing:
            if self._closed:
                raise SandboxUnavailableError("this AutoSandbox is closed; make a new one")
            if self._chosen is None:
                self._chosen = auto_sandbox(
                    self._kind,
                    limits=self.limits,
                    parallel=self.parallel,
                    prestart=self._prestart,
                    build=self._build,
                )
            return self._chosen
