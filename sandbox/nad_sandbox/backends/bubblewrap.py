"""Run programs in bubblewrap sandboxes, where there is no container engine."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from nad_sandbox.backends.bubblewrap_args import Layout, find_interpreter
from nad_sandbox.backends.bubblewrap_process import BubblewrapProcess
from nad_sandbox.backends.launcher import Lifetime, rlimits
from nad_sandbox.backends.pool import WarmPool
from nad_sandbox.base import ExecResult, Limits, SandboxError, SandboxUnavailableError
from nad_sandbox.image.pytest_files import collect_pytest, find_pytest
from nad_sandbox.isolation.cgroup import ControlGroups
from nad_sandbox.isolation.sandbox_user import NOBODY, UNUSED_USERS
from nad_sandbox.isolation.seccomp_filter import compile_filter
from nad_sandbox.ownership.temp_folders import owned_folder
from nad_sandbox.program import Program, python_program
from nad_sandbox.threaded import ThreadedSandbox

__all__ = ["BubblewrapSandbox", "Scope"]

Scope = Literal["program", "process", "none"]

_INSTALL = "install it with `apt install bubblewrap` (Debian, Ubuntu) or `dnf install bubblewrap` (Fedora)"
_ADDRESS_SPACE_MIB = 1024
_FALLBACK_PYTHON = "/usr/bin/python3"
_PROBE = """
import json, os
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
mounts = [line.split() for line in open("/proc/self/mounts")]
scratch = [m[3].split(",") for m in mounts if m[1] == "/tmp"][-1]
print(json.dumps({
    "uid": os.getuid(),
    "capabilities": any(int(status["Cap" + kind], 16) for kind in ("Prm", "Eff", "Inh", "Amb")),
    "no_new_privs": status["NoNewPrivs"] == "1", "seccomp": status["Seccomp"] == "2",
    "own_scratch": "noexec" in scratch,
    "interfaces": [line.split(":")[0].strip() for line in open("/proc/net/dev").read().splitlines()[2:]],
    "root": "ro" in [m[3].split(",") for m in mounts if m[1] == "/"][-1],
}))
"""


@dataclass(frozen=True)
class _Setup:
    """How sandboxes work on this machine, found out by making one.

    Attributes:
        layout: How sandboxes are made.
        groups: Makes control groups; None where this process may make none.
        rlimits: Resource limits of every program.
        enforced: See `BubblewrapSandbox.enforced`.
    """

    layout: Layout
    groups: ControlGroups | None
    rlimits: dict[str, int]
    enforced: dict[str, Scope]


class BubblewrapSandbox(ThreadedSandbox):
    """Runs each program in namespaces of its own: no network, no files of yours, nothing writable but a small tmpfs.

    The program sees the distribution's programs and libraries and one Python, all read-only. It runs without
    capabilities, under the same system-call policy as in `DockerSandbox`, and all its processes end with it. When root
    starts the sandbox, the program runs as a user that no other program has, so that the kernel's quotas for each user
    (pipes, timers, inotify) are not shared. When another user starts it, the program runs as nobody inside the sandbox
    and as that user outside, where it can reach nothing.

    A control group bounds memory, processes and CPU time of the whole program where this process may make one (as root,
    or below a delegated group). Elsewhere the private memory of each process is bounded, and its address space at 1 GiB
    more; processes are counted for each program, and CPU time is not bounded. `enforced` tells which bounds hold.

    Sandboxes are started ahead of time, read one program from their standard input, and are removed in the background.

    Args:
        limits: Limits of each program.
        parallel: Number of programs that may run at once; default: one per CPU core.
        prestart: Number of sandboxes to keep ready; default: the value of `parallel`.
        python: The interpreter inside. That of a virtual environment brings the environment's packages. Default: the
            interpreter of this process, without its environment's packages.
        bwrap: Name or path of the bubblewrap executable.

    Raises:
        ValueError: A limit, `parallel` or `prestart` is out of range.
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        parallel: int | None = None,
        prestart: int | None = None,
        python: str | None = None,
        bwrap: str = "bwrap",
    ) -> None:
        super().__init__(limits=limits, parallel=parallel)
        self.prestart = self.parallel if prestart is None else prestart
        if self.prestart < 0:
            raise ValueError(f"prestart is {prestart}: it must be 0 or more")
        self.python = python
        self.bwrap = bwrap
        self._setup: _Setup | None = None
        self._pool: WarmPool[BubblewrapProcess] | None = None
        self._pid = 0
        self._folders = contextlib.ExitStack()
        self._pytest_asked = False
        self._preparing = threading.Lock()

    @property
    def enforced(self) -> Mapping[str, Scope]:
        """What each field of `Limits` bounds on this machine.

        "program" means the program with all its processes, "process" each of its processes, and "none" nothing.

        Raises:
            SandboxUnavailableError: No sandbox can be made; see `check_available`.
        """
        return dict(self._prepared()[0].enforced)

    def check_available(self) -> None:
        """Find out whether sandboxes can be made here, by making one.

        Raises:
            SandboxUnavailableError: No sandbox can be made; the message says what to do.
        """
        self._prepared()

    def wait_ready(self) -> None:
        """Wait until the stock of started sandboxes is full and used ones are gone.

        Raises:
            SandboxUnavailableError: No sandbox can be made; see `check_available`.
        """
        _, pool = self._prepared()
        pool.prepare()
        pool.wait_idle()

    def provide_pytest(self) -> None:
        """Copy pytest for the interpreter inside, once, if its version differs from that of this process."""
        setup, _ = self._prepared()
        with self._preparing:
            if self._pytest_asked or setup.layout.packages:
                return
            self._pytest_asked = True
            interpreter = setup.layout.interpreter
            folder = self._folders.enter_context(owned_folder())
            folder.chmod(0o755)
            packages = folder / "packages"
            with contextlib.suppress(SandboxUnavailableError):
                collect_pytest(packages, interpreter.version, platform.machine())
                command = [interpreter.executable, "-I", "-m", "compileall", "-q", str(packages)]
                subprocess.run(command, capture_output=True, check=False)
                found = {path.name: path for path in packages.iterdir()}
                self._setup = replace(setup, layout=replace(setup.layout, packages=found))
                # sandboxes that were started earlier lack the packages
                pool, self._pool = self._pool, None
                if pool is not None:
                    pool.close()

    def close(self) -> None:
        """Remove every sandbox that was started; may be called twice."""
        super().close()
        with self._preparing:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
        self._folders.close()

    def _run(self, program: Program, cancelled: threading.Event) -> ExecResult:
        _, pool = self._prepared()
        try:
            process = pool.take()
        except OSError as error:
            raise SandboxUnavailableError(f"the control group of a sandbox cannot be used: {error}") from error
        try:
            return process.run(program, cancelled)
        except BaseException:
            # an interrupt may end this process next, so the sandbox must end now
            process.kill()
            raise
        finally:
            pool.give_back(process)

    def _session_process(self, limits: Limits, lifetime: Lifetime) -> BubblewrapProcess:
        setup, _ = self._prepared()
        layout = replace(setup.layout, limits=limits, lifetime=lifetime)
        try:
            return BubblewrapProcess(layout, setup.groups, _rlimits(limits, setup.groups))
        except OSError as error:
            raise SandboxUnavailableError(f"the control group of a sandbox cannot be used: {error}") from error

    def _prepared(self) -> tuple[_Setup, WarmPool[BubblewrapProcess]]:
        with self._preparing:
            if self._closed:
                raise SandboxUnavailableError("this BubblewrapSandbox is closed; make a new one")
            if self._setup is None:
                self._setup = self._prepare()
            if self._pool is None or self._pid != os.getpid():  # a forked process shares neither threads nor sandboxes
                self._pool = _pool_of(self._setup, self.prestart)
                self._pid = os.getpid()
                weakref.finalize(self, self._pool.close)
            return self._setup, self._pool

    def _prepare(self) -> _Setup:
        bwrap = shutil.which(self.bwrap)
        if sys.platform != "linux" or bwrap is None:
            raise SandboxUnavailableError(f"there is no bubblewrap ({self.bwrap!r}) on this machine; {_INSTALL}")
        compile_filter()
        groups = ControlGroups.find()
        if groups is not None:
            groups.reap()
        help_text = subprocess.run([bwrap, "--help"], capture_output=True, text=True, check=False).stdout
        sized = "--size" in help_text  # from bubblewrap 0.7 on
        pythons = [self.python] if self.python is not None else [None, _FALLBACK_PYTHON]
        failures: list[SandboxError] = []
        for python in pythons:
            try:
                interpreter = find_interpreter(python)
                own = interpreter.cache_tag == sys.implementation.cache_tag
                packages = find_pytest() if own else {}
                layout = Layout(bwrap, interpreter, self.limits, os.geteuid() == 0, sized, packages)
                return self._try(layout, groups)
            except SandboxError as error:
                failures.append(error)
        raise SandboxUnavailableError(f"{failures[0]}{_advice(str(failures[0]))}") from failures[0]

    def _try(self, layout: Layout, groups: ControlGroups | None) -> _Setup:
        """Make a sandbox, and check from the inside that it isolates."""
        values = _rlimits(self.limits, groups)
        probe = python_program(_PROBE, stdin=b"", files=None, timeout=60)
        try:
            process = BubblewrapProcess(layout, groups, values)
            try:
                result = process.run(probe, threading.Event())
            finally:
                process.remove()
        except OSError:
            if groups is None:
                raise
            return self._try(layout, None)  # the right to make a group does not always include moving processes into it
        if not result.ok:
            words = (result.stderr.strip().splitlines() or [f"status {result.returncode}"])[-1]
            raise SandboxUnavailableError(f"the Python {layout.interpreter.executable} does not run in it: {words}")
        facts = json.loads(result.stdout)
        held = (
            facts["uid"] in (UNUSED_USERS if layout.as_root else (NOBODY,))
            and not facts["capabilities"]
            and facts["no_new_privs"]
            and facts["seccomp"]
            and facts["root"]
            and (facts["own_scratch"] or layout.sized)
            and set(facts["interfaces"]) <= {"lo", "sit0", "tunl0", "ip6tnl0", "gre0"}
        )
        if not held:
            raise SandboxUnavailableError(f"bubblewrap made something that does not isolate: {facts}")
        return _Setup(layout, groups, values, _scopes(groups))


def _rlimits(limits: Limits, groups: ControlGroups | None) -> dict[str, int]:
    controllers = groups.parents if groups is not None else {}
    values = rlimits(limits, memory="memory" not in controllers)
    if "memory" not in controllers:
        # shared memory is not private, and libraries and thread stacks take address space without using memory
        values["RLIMIT_AS"] = (limits.memory_mb + _ADDRESS_SPACE_MIB) * 2**20
    if "pids" not in controllers:
        # counts processes of the program's own user, or of its own user namespace
        values["RLIMIT_NPROC"] = limits.pids
    return values


def _scopes(groups: ControlGroups | None) -> dict[str, Scope]:
    controllers = groups.parents if groups is not None else {}
    return {
        "timeout": "program",
        "memory_mb": "program" if "memory" in controllers else "process",
        "cpus": "program" if "cpu" in controllers else "none",
        "pids": "program",
        "nofile": "process",
        "fsize_mb": "process",
        "tmpfs_mb": "program",
        "output_bytes": "program",
    }


def _pool_of(setup: _Setup, size: int) -> WarmPool[BubblewrapProcess]:
    """Return a pool that holds no reference to the sandbox object, so that collecting that object closes the pool."""
    return WarmPool(
        make=lambda: BubblewrapProcess(setup.layout, setup.groups, setup.rlimits),
        discard=lambda process: process.remove(),
        is_usable=lambda process: process.is_usable(),
        goes_on=lambda process: process.goes_on,
        size=size,
        workers=max(1, size),
    )


def _advice(error: str) -> str:
    """Return what most likely forbids sandboxes here and what to do about it; empty for an unknown cause."""
    if not any(word in error for word in ("namespace", "uid map", "not permitted", "Permission denied", "mount")):
        return ""
    for name, forbids, allows in (
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("user.max_user_namespaces", "0", "10000"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ):
        file = Path("/proc/sys", name.replace(".", "/"))
        if os.geteuid() != 0 and file.exists() and file.read_text().strip() == forbids:
            return f"; users may not make namespaces here: `sysctl -w {name}={allows}` as root allows it"
    return (
        "; it needs namespaces: a container that forbids them (as Docker's default does) must be started with "
        "`--cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt systempaths=unconfined`"
    )
