"""The programs that run inside the sandbox besides candidates; their source is sent there and never imported here.

The *supervisor* holds the payload and the nonce that proves its verdict, and never loads the program. It forks two
children before it reads anything:

1. The *first judge* loads the program and its tests in one process and runs them as Python and pytest run them.
   Every correct program passes, and the tricks that models use to pass tests do not. A program written against this
   judge can in principle deceive it, since both share a process.
2. The *second judge* is the supervisor itself. It evaluates tests that are plain enough in its own process, where
   nothing of the program is loaded, and calls the program in the second child with plain data only. It confirms what
   the first judge passed.

`judge_source` returns the source of both judges. `observer_source` returns the source of the observer, which judges
nothing: it reports what a program does with many inputs. `file_transfer_source` returns the source of the program that
writes and reads the files of a session.
"""

from __future__ import annotations

import re
from functools import cache

from nad_sandbox.joined_source import joined_source, module_source

__all__ = ["file_transfer_source", "judge_source", "observer_source"]

_PACKAGE = "nad_sandbox.harness"

_JUDGE = (
    "equality.py",
    "plain_data.py",
    "child.py",
    "program.py",
    "assertions.py",
    "integrity.py",
    "examples.py",
    "pytest_session.py",
    "same_process.py",
    "call_server.py",
    "separate_process.py",
    "io_pairs.py",
    "supervisor.py",
)


@cache
def judge_source() -> str:
    """Return the source of the judges' program; it needs Python 3.8 or later and only the standard library.

    The bootstrap program calls its function ``main``. Tests that need pytest find it in the sandbox; see
    `nad_sandbox.image.pytest_files`.
    """
    return joined_source(_PACKAGE, _JUDGE)


@cache
def observer_source() -> str:
    """Return the program that observes, twice, what a candidate returns, prints and raises on many inputs."""
    observed = "".join(map(_module, ("canonical_form.py", "surroundings.py", "observed_program.py")))
    parts = [f"OBSERVED_PROGRAM = {observed!r}\n", observed, _module("child.py"), _module("observer.py")]
    return "from __future__ import annotations\n" + "".join(parts)


@cache
def file_transfer_source() -> str:
    """Return the program that writes or reads one file of a session."""
    return _module("file_transfer.py")


def _module(name: str) -> str:
    """Return a module's source without the lines that are needed only while the modules are separate files."""
    return re.sub(r"^OBSERVED_PROGRAM = globals.*$", "", module_source(_PACKAGE, name), flags=re.MULTILINE)
