"""The program that waits inside a sandbox for the one program to run, then becomes that program.

`bootstrap_source` joins the modules of this package to one source, which is passed to ``python3 -I -S -c``: the program
runs in the sandbox's own interpreter (3.8 or later) and uses only the standard library. In order:

1. It restricts itself: it sets up the confinement that the backend cannot set up from outside (`privileges`), and
   Landlock if the settings ask for it and the kernel supports it (`file_access`).
2. It reports on standard output that it is ready, with the version of this Python, and waits on standard input
   (`main`).
3. It reads the feed: the header, the program's standard input and the files (`feed`).
4. It becomes the program, which inherits only the descriptors 0, 1 and 2 and cannot read the feed's pipe
   (`program_start`). If the feed has a mark, a forked process becomes the program, and this process kills what the
   program leaves behind and reports its exit status (`program_end`). If the settings name a user, the forked process
   changes to that user first, so that it cannot reach this process. This interpreter runs a program of the harness,
   which is trusted, itself; that program reads the rest of the feed.
5. It waits for the next program if the last one belonged to the harness, ran as another user, exited with status 0,
   and left no process, file or connection behind (`leftovers`). Otherwise it exits, and the sandbox is not used again.

In a session the programs belong together: it keeps their files, and waits for the next program however the last one
ended. A byte in place of a length asks it to end the program that runs.

Its own exit codes are 126 (the program could not be set up or executed) and 127 (the program was not found).
"""

from __future__ import annotations

from functools import cache

from nad_sandbox.joined_source import joined_source

__all__ = ["bootstrap_source"]

_PARTS = (
    "feed.py",
    "privileges.py",
    "file_access.py",
    "leftovers.py",
    "program_end.py",
    "program_start.py",
    "main.py",
)


@cache
def bootstrap_source() -> str:
    """Return the text of the bootstrap program, for ``python3 -c``."""
    return joined_source("nad_sandbox.isolation.bootstrap", _PARTS) + "\nmain()\n"
