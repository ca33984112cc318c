"""Become a program: the user, the files, the limits and the environment that its header asks for."""

from __future__ import annotations

import os
import signal
import sys

from nad_sandbox.isolation.bootstrap.feed import read_exactly, receive_file
from nad_sandbox.isolation.bootstrap.privileges import be_unseen, become_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def load_harness(header: dict[str, Any], harnesses: dict[str, Any]) -> Any:
    """Return the main function of the harness program that the header names, None if it names none.

    The feed contains the source of each harness program once; later headers only name it.
    """
    import gc
    import marshal

    name = header["harness"]
    if name is None:
        return None
    if header["harness_size"]:
        program = read_exactly(header["harness_size"])
        code = marshal.loads(program) if header["compiled"] else compile(program, "harness.py", "exec", 0, True)
        import builtins

        # the harness gets its own copy of the built-in names, which a candidate cannot replace
        scope = {"__builtins__": dict(vars(builtins)), "__name__": "harness"}
        exec(code, scope)
        harnesses[name] = scope["main"]
        del program, code
        gc.collect()
        gc.freeze()  # garbage collection in a forked process then does not copy these objects
    return harnesses[name]


def begin(settings: dict[str, Any], header: dict[str, Any], harness: Any) -> None:
    """Turn the current process into the program."""
    if settings["user"] is not None:
        become_user(*settings["user"])
        be_unseen()
    os.makedirs(settings["workdir"], mode=0o700, exist_ok=True)
    os.chdir(settings["workdir"])
    if harness is not None:
        run_harness(header, harness)
    try:
        if header["stdin"]:
            receive_file(".stdin", header["stdin"])
            source = os.open(".stdin", os.O_RDONLY)
            os.unlink(".stdin")
        else:
            source = os.open("/dev/null", os.O_RDONLY)
        for name, size in header["files"]:
            if os.path.dirname(name):
                os.makedirs(os.path.dirname(name), exist_ok=True)
            receive_file(name, size)
    except OSError as error:
        fail(126, "the program's files could not be written: " + str(error))
    os.dup2(source, 0)
    os.closerange(3, 256)
    become_program(header)


def run_harness(header: dict[str, Any], harness: Any) -> None:
    """Run a program of the harness in this process."""
    os.closerange(3, 256)
    set_limits(header)
    os.environ.update(header["env"], HOME=os.getcwd())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    harness()
    os._exit(0)


def set_limits(header: dict[str, Any]) -> None:
    """Set the program's resource limits and an alarm, and restore the default handling of signals."""
    import resource

    # if the supervisor dies, the alarm ends the program, unless the program handles it
    signal.alarm(header["alarm"])
    for name, value in header["rlimits"].items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (limit, limit))
    # ignored signals stay ignored across exec: Python ignores two, and the process that started this one maybe more
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)


def become_program(header: dict[str, Any]) -> None:
    """Set the environment and the resource limits, and execute the program."""
    environment = dict(os.environ, HOME=os.getcwd())
    environment.update(header["env"])
    argv = header["argv"] or [sys.executable, header["main"]]
    set_limits(header)
    if header["merge"]:
        os.dup2(1, 2)
    try:
        os.chdir(header["folder"])
    except OSError as error:
        fail(126, "the folder " + repr(header["folder"]) + " cannot be entered: " + str(error.strerror))
    try:
        os.execvpe(argv[0], argv, environment)
    except FileNotFoundError:
        fail(127, "there is no program " + repr(argv[0]) + " in the sandbox")
    except OSError as error:
        fail(126, "the program " + repr(argv[0]) + " cannot be executed: " + str(error.strerror))


def fail(code: int, message: str) -> None:
    """Write why the program was not run to standard error, and end the process with an exit code."""
    os.write(2, ("nad_sandbox: " + message + "\n").encode("utf-8", "replace"))
    os._exit(code)
