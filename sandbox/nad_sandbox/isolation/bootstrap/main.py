"""The main loop: restrict this process, report that it is ready, then run one program after the other."""

from __future__ import annotations

import json
import os
import sys

from nad_sandbox.isolation.bootstrap.feed import read_exactly, read_header
from nad_sandbox.isolation.bootstrap.file_access import mount_scratch_space, restrict_with_landlock
from nad_sandbox.isolation.bootstrap.privileges import (
    KILL,
    SETGID,
    SETPCAP,
    SETUID,
    be_unseen,
    keep_capabilities,
    limit_capabilities,
    load_filter,
)
from nad_sandbox.isolation.bootstrap.program_end import (
    adopt_orphans,
    follow_command,
    follow_program,
    notice_ended_children,
)
from nad_sandbox.isolation.bootstrap.program_start import begin, load_harness

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

READY = b"\x06"
READY_SIZE = 16
MOST_PROGRAMS = 100
# modules that the harness uses; importing them before a program arrives delays no program
HARNESS_MODULES = ("ast", "gc", "io", "linecache", "marshal", "math", "resource", "select", "traceback")


def main() -> None:
    """Restrict this process, then become one program, or run several programs in turn."""
    settings = json.loads(sys.argv[1])
    if settings.get("confinement"):
        mount_scratch_space(settings["confinement"]["writable"])
        kept = (KILL, SETGID, SETUID, SETPCAP) if settings["user"] is not None else ()
        limit_capabilities(kept)
        keep_capabilities(kept)
    if settings["landlock"]:
        restrict_with_landlock(settings["landlock"])
    if settings.get("confinement"):
        load_filter(bytes.fromhex(settings["confinement"]["filter"]))
    prepare()
    version = sys.version.split()[0].encode()
    os.write(1, (READY + version).ljust(READY_SIZE)[:READY_SIZE])
    harnesses: dict[str, Any] = {}
    session = settings.get("session")
    ended = notice_ended_children() if session else -1
    for turn in range(sys.maxsize if session else MOST_PROGRAMS):
        header = read_header()
        harness = load_harness(header, harnesses)
        if header["mark"]:
            be_unseen()
            adopt_orphans()
            starting, start = os.pipe()
            taken, taking = os.pipe()  # the program's end is closed before it begins
            program = os.fork()
            if program:
                # the mark is read after the fork, so that the program's process never has it, not even in freed memory
                mark = read_exactly(header["mark"]).decode()
                os.close(starting)
                os.close(start)
                os.close(taking)
                if session:
                    follow_command(program, mark, taken, ended, harness is not None, session["background"])
                else:
                    last = turn + 1 == MOST_PROGRAMS or settings["user"] is None or harness is None
                    follow_program(program, mark, taken, settings, last)
                continue
            os.close(start)
            os.read(starting, 1)
            os.close(starting)
            os.setpgid(0, 0)
        begin(settings, header, harness)


def prepare() -> None:
    """Make installed packages importable, as Python's usual start does, and import the modules of the harness."""
    import site

    stdout, sys.stdout = sys.stdout, sys.stderr  # site's start-up files may print
    site.main()
    for name in HARNESS_MODULES:
        __import__(name)
    sys.stdout = stdout
