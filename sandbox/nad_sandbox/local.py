"""Running programs with no isolation at all, for those who ask for it by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from functools import cache
from importlib import resources

from nad_sandbox.base import ExecResult, Limits
from nad_sandbox.jobs import Job
from nad_sandbox.running import ThreadedSandbox
from nad_sandbox.supervision import kill_group, supervise, wait_until_ready
from nad_sandbox.temporary import owned_folder

__all__ = ["READY", "START_SECONDS", "UnsafeLocalSandbox", "bootstrap_source", "hit_memory_rlimit", "rlimits"]

READY = b"\x06"
"""What the bootstrap program writes once it waits for its job."""

START_SECONDS = 20.0
"""How long a sandbox process may take until it is ready."""


@cache
def bootstrap_source() -> str:
    """The text of the bootstrap program, for ``python3 -c``."""
    return resources.files("nad_sandbox").joinpath("bootstrap.py").read_text(encoding="utf-8")


def rlimits(limits: Limits, *, memory: bool) -> dict[str, int]:
    """The resource limits that a program gets.

    Args:
        limits: what it may use.
        memory: bound its private memory too, for want of anything better (a cgroup bounds a whole sandbox,
            this each process).
    """
    values = {
        "RLIMIT_NOFILE": limits.nofile,
        "RLIMIT_FSIZE": limits.fsize_mb * 2**20,
        "RLIMIT_CORE": 0,
    }
    if memory:
        values["RLIMIT_DATA"] = limits.memory_mb * 2**20
    return values


def hit_memory_rlimit(returncode: int | None, stderr: str) -> bool:
    """Whether a program that failed under a memory rlimit says itself that it ran out of memory."""
    lines = stderr.rstrip().splitlines()
    return bool(returncode) and bool(lines) and lines[-1].startswith("MemoryError")


class UnsafeLocalSandbox(ThreadedSandbox):
    """Runs programs as the current user, WITHOUT ISOLATION: they can read, change and delete what you can.

    Never chosen unless named. Time, output, open files, file size and the memory of each process are limited;
    the working folder is a fresh temporary one. `Limits.cpus`, `Limits.pids` and `Limits.tmpfs_mb` (for what
    the program writes) are not enforced, and a program that detaches itself outlives the call.

    Args:
        limits: what a program may use.
        parallel: programs that run at once; default: one per CPU core.
        python: the interpreter; default: the one that runs this.
    """

    def __init__(
        self, *, limits: Limits | None = None, parallel: int | None = None, python: str = sys.executable
    ) -> None:
        super().__init__(limits=limits, parallel=parallel)
        self.python = python

    def _run(self, job: Job, cancelled: threading.Event) -> ExecResult:
        with owned_folder() as folder:
            settings = json.dumps({"workdir": str(folder), "landlock": []})
            process = subprocess.Popen(
                [self.python, "-I", "-S", "-c", bootstrap_source(), settings],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(folder)},
                start_new_session=True,
            )
            try:
                wait_until_ready(process, READY, START_SECONDS)
                ended = supervise(
                    process,
                    job.feed(rlimits(self.limits, memory=True)),
                    timeout=job.timeout,
                    output_bytes=self.limits.output_bytes,
                    cancelled=cancelled,
                    kill=lambda: kill_group(process),
                )
            finally:
                kill_group(process)
                process.wait()
        killed = ended.timed_out or ended.stopped
        returncode = None if killed else ended.returncode
        stderr = ended.stderr.text()
        return ExecResult(
            returncode,
            ended.stdout.text(),
            stderr,
            duration=ended.duration,
            timed_out=ended.timed_out,
            oom_killed=hit_memory_rlimit(returncode, stderr),
            output_truncated=ended.stdout.truncated or ended.stderr.truncated,
        )
