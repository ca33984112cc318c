"""Wait until a program has ended, kill what it left running, and report how it ended."""

from __future__ import annotations

import os
import select
import signal

from nad_sandbox.isolation.bootstrap.leftovers import left_nothing
from nad_sandbox.isolation.bootstrap.privileges import LIBC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OOM_COUNTS = "/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"


def follow_program(program: int, mark: str, taken: int, settings: dict[str, Any], last: bool) -> None:
    """Wait for the program and report its exit status; exit unless another program may use this sandbox."""
    code = watch(program)
    os.close(taken)
    goes_on = code == 0 and not last and left_nothing(settings)
    tell(mark, code, goes_on)
    if not goes_on:
        os._exit(code)


def follow_command(program: int, mark: str, taken: int, ended: int, trusted: bool, background: bool) -> None:
    """Wait for a program of a session, or end it where the supervisor asks for that, and report its exit status.

    A trusted program, one of the harness, reads the feed to its end itself, so nothing asks to end it. With
    `background`, processes that the program left in the background live on.
    """
    before = oom_kills()
    if not trusted:
        wait_or_end(program, taken, ended)
    code = watch(program, everything=not background)
    os.close(taken)
    tell(mark, code, True, out_of_memory=oom_kills() > before)


def adopt_orphans() -> None:
    """Make this process the parent of its descendants' orphans."""
    LIBC.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def notice_ended_children() -> int:
    """Return the reading end of a pipe into which the kernel's notice of every ended child process is written."""
    ended, wake = os.pipe()
    os.set_blocking(ended, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler the pipe gets nothing
    return ended


def wait_or_end(program: int, taken: int, ended: int) -> None:
    """Wait until a program of a session has ended; kill it with its process group if the supervisor asks for that.

    Until the program has taken its input, which `taken` tells by its end, the rest of the feed belongs to the program.
    """
    sources = [taken, ended]
    while True:
        ready = select.select(sources, [], [])[0]
        if ended in ready:
            os.read(ended, 4096)
            if os.waitid(os.P_PID, program, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return
        if taken in ready:
            sources = [0, ended]
        if 0 in ready:
            if not os.read(0, 1):
                os._exit(0)  # nobody is left who could use the session, and its processes end with this one
            for kill in (os.killpg, os.kill):  # the program may have left its group
                try:
                    kill(program, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            return


def watch(program: int, everything: bool = True) -> int:
    """Wait for the program, kill every process that it started, and return its exit status.

    With `everything` unset, processes that it left in the background live on.
    """
    status = os.waitpid(program, 0)[1]
    try:
        while not everything and os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
    try:
        while everything:
            os.kill(-1, signal.SIGKILL)  # kills every process but this one and the init process
            reap()
    except ProcessLookupError:
        pass
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def reap() -> None:
    """Wait for the killed processes; all that the program started have become children of this process."""
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        pass


def oom_kills() -> int:
    """Return how many processes of this sandbox the memory limit has killed; 0 where its control group is not seen."""
    for name in OOM_COUNTS:
        if os.path.exists(name):
            with open(name, encoding="ascii") as file:
                return sum(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
    return 0


def tell(mark: str, code: int, goes_on: bool, out_of_memory: bool = False) -> None:
    """Write to both outputs the mark, the program's exit status, and whether another program may follow."""
    told = f"{mark}{code:03d}{'!' if out_of_memory else '+' if goes_on else '-'}".encode()
    for output in (1, 2):
        left = told
        while left:
            left = left[os.write(output, left) :]
