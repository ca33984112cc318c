"""Run programs without any isolation, for callers who ask for exactly that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

from nad_sandbox.backends.launcher import (
    BOOTSTRAP_FLAGS,
    READY_SIZE,
    START_SECONDS,
    hit_memory_rlimit,
    python_version,
    rlimits,
)
from nad_sandbox.base import ExecResult, Limits
from nad_sandbox.isolation.bootstrap import bootstrap_source
from nad_sandbox.ownership.temp_folders import owned_folder
from nad_sandbox.process.supervisor import kill_group, read_ready_message, supervise
from nad_sandbox.program import Program
from nad_sandbox.threaded import ThreadedSandbox

__all__ = ["UnsafeLocalSandbox"]


class UnsafeLocalSandbox(ThreadedSandbox):
    """Runs programs as the current user, WITHOUT ISOLATION: they can read, change and delete everything that you can.

    This sandbox is never chosen unless named. Time, output, open files, file size and the memory of each process are
    limited; the working folder is a fresh temporary one. `Limits.cpus`, `Limits.pids` and `Limits.tmpfs_mb` (for files
    that the program writes) are not enforced, and a program that detaches itself outlives the call.

    Args:
        limits: Limits of each program.
        parallel: Number of programs that may run at once; default: one per CPU core.
        python: The interpreter; default: that of this process.
    """

    def __init__(
        self, *, limits: Limits | None = None, parallel: int | None = None, python: str = sys.executable
    ) -> None:
        super().__init__(limits=limits, parallel=parallel)
        self.python = python

    def _run(self, program: Program, cancelled: threading.Event) -> ExecResult:
        with owned_folder() as folder:
            settings = json.dumps({"workdir": str(folder), "landlock": [], "user": None})
            process = subprocess.Popen(
                [self.python, *BOOTSTRAP_FLAGS, bootstrap_source(), settings],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(folder)},
                start_new_session=True,
            )
            try:
                message = read_ready_message(process, READY_SIZE, START_SECONDS)
                ended = supervise(
                    process,
                    program.feed(rlimits(self.limits, memory=True)),
                    timeout=program.timeout,
                    output_bytes=self.limits.output_bytes,
                    cancelled=cancelled,
                    kill=lambda: kill_group(process),
                )
            finally:
                kill_group(process)
                process.wait()
        return ended.result(hit_memory_rlimit, python_version(message) or "")
