"""The program that waits inside a sandbox for the one program to run, then becomes that program.

Its source is passed to ``python3 -I -S -c``: it runs in the sandbox's own interpreter (3.8 or later), uses only the
standard library, and is never imported. In order:

1. It restricts itself: it sets up the confinement that the backend cannot set up from outside, and Landlock if the
   settings ask for it and the kernel supports it.
2. It reports on standard output that it is ready, with the version of this Python, and waits on standard input.
3. It reads the feed: the header, the program's standard input and the files.
4. It becomes the program, which inherits only the descriptors 0, 1 and 2 and cannot read the feed's pipe. If the feed
   has a mark, a forked process becomes the program, and this process kills what the program leaves behind and reports
   its exit status. If the settings name a user, the forked process changes to that user first, so that it cannot reach
   this process. This interpreter runs a program of the harness, which is trusted, itself; that program reads the rest
   of the feed.
5. It waits for the next program if the last one belonged to the harness, ran as another user, exited with status 0,
   and left no process, file or connection behind. Otherwise it exits, and the sandbox is not used again.

In a session the programs belong together: it keeps their files, and waits for the next program however the last one
ended. A byte in place of a length asks it to end the program that runs.

Its own exit codes are 126 (the program could not be set up or executed) and 127 (the program was not found).
"""

# pathlib takes longer to import than all of this
# ruff: noqa: B905, PTH101, PTH103, PTH106, PTH108, PTH123, PTH109, PTH110, PTH112, PTH120, PTH208

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

READY = b"\x06"
READY_SIZE = 16
FEED_CHUNK = 1 << 18
MOST_PROGRAMS = 100
CLEANING_SECONDS = 2
# modules that the harness uses; importing them before a program arrives delays no program
HARNESS_MODULES = ("ast", "gc", "io", "linecache", "marshal", "math", "resource", "select", "traceback")
QUEUES = "/dev/mqueue"
CONNECTIONS = "/proc/net/sockstat", "/proc/net/sockstat6"
OOM_COUNTS = "/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"
LIBC = ctypes.CDLL(None, use_errno=True)
KILL, SETGID, SETUID, SETPCAP = 5, 6, 7, 8  # capabilities


def read_exactly(size: int) -> bytes:
    """Read exactly `size` bytes of the feed; end the process when the feed is closed."""
    parts = []
    while size:
        part = os.read(0, min(size, FEED_CHUNK))
        if not part:
            os._exit(0)  # the feed was closed before a program came, so this sandbox is not needed
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def read_header() -> dict:  # type: ignore[type-arg] # 3.8
    """Read the header of the next program."""
    first = read_exactly(1)
    while first != b"\0":  # no header is so long; this byte asked to end a program that had just ended
        first = read_exactly(1)
    return json.loads(read_exactly(int.from_bytes(read_exactly(7), "big")))  # type: ignore[no-any-return]


def receive_file(path: str, size: int) -> None:
    """Write the next `size` bytes of the feed to a file."""
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    while size:
        part = read_exactly(min(size, FEED_CHUNK))
        size -= len(part)
        while part:
            part = part[os.write(target, part) :]
    os.close(target)


def confine(settings: dict) -> None:  # type: ignore[type-arg] # 3.8
    """Mount the scratch space."""
    for place, options in settings["writable"].items():
        # nosuid, nodev, noexec; where a security module forbids it, the plain tmpfs that lies there is used
        LIBC.mount(b"tmpfs", place.encode(), b"tmpfs", ctypes.c_ulong(2 | 4 | 8), options.encode())


def limit_capabilities(kept: tuple) -> None:  # type: ignore[type-arg] # 3.8
    """Drop all other capabilities from the bounding set, so that no program executed from now on can gain them."""
    for capability in range(64):
        if capability not in kept:
            LIBC.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def keep_capabilities(kept: tuple) -> None:  # type: ignore[type-arg] # 3.8
    """Drop all other capabilities of this process."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    held = sum(1 << capability for capability in kept)
    sets = (ctypes.c_uint32 * 6)(held, held, 0, 0, 0, 0)
    if LIBC.prctl(47, 4, 0, 0, 0) < 0 or LIBC.capset(header, sets) < 0:  # PR_CAP_AMBIENT, clear all
        raise OSError(ctypes.get_errno(), "capset")


def become_user(user: int, group: int) -> None:
    """Change irrevocably to a user without any capability."""
    limit_capabilities(())
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    keep_capabilities(())


def load_filter(program: bytes) -> None:
    """Load a seccomp filter, which the kernel applies to every system call from now on."""
    import struct

    text = ctypes.create_string_buffer(program, len(program))
    pointer = struct.pack("HP", len(program) // 8, ctypes.addressof(text))
    LIBC.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS, which seccomp filters require
    if LIBC.prctl(22, 2, pointer, 0, 0) < 0:  # PR_SET_SECCOMP
        raise OSError(ctypes.get_errno(), "seccomp")


def restrict_with_landlock(writable: list[str]) -> None:
    """Deny writes outside `writable`, execution inside it, TCP, and signals and abstract sockets to the outside."""
    abi = LIBC.syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if abi < 1:
        return
    execute, read = 1 << 0, (1 << 2) | (1 << 3)
    known = (1 << 13) - 1
    if abi >= 2:
        known |= 1 << 13  # refer
    if abi >= 3:
        known |= 1 << 14  # truncate
    device = (1 << 1) | (1 << 14 & known)  # write a file
    if abi >= 5:
        known |= 1 << 15  # ioctl on devices
    net = 3 if abi >= 4 else 0
    scoped = 3 if abi >= 6 else 0
    attributes = (ctypes.c_uint64 * 3)(known, net, scoped)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = LIBC.syscall(444, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    # a rule holds for everything below its folder, so execution is granted only beside the writable folders
    rules = [("/", read)]
    folders = ["/" + name for name in os.listdir("/") if os.path.isdir("/" + name)]
    beside = [folder for folder in folders if not any((path + "/").startswith(folder + "/") for path in writable)]
    rules += [(folder, execute | read) for folder in beside]
    rules += [(path, known & ~execute) for path in writable]
    devices = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
    rules += [(path, (1 << 2) | device) for path in devices if os.path.exists(path)]
    for path, access in rules:
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = access.to_bytes(8, sys.byteorder) + folder.to_bytes(4, sys.byteorder)
        if LIBC.syscall(445, ruleset, 1, rule, ctypes.c_uint32(0)) < 0:
            raise OSError(ctypes.get_errno(), "landlock_add_rule " + path)
        os.close(folder)
    LIBC.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS, which Landlock requires
    if LIBC.syscall(446, ruleset, ctypes.c_uint32(0)) < 0:
        raise OSError(ctypes.get_errno(), "landlock_restrict_self")
    os.close(ruleset)


def fail(code: int, message: str) -> None:
    """Write why the program was not run to standard error, and end the process with an exit code."""
    os.write(2, ("nad_sandbox: " + message + "\n").encode("utf-8", "replace"))
    os._exit(code)


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


def oom_kills() -> int:
    """Return how many processes of this sandbox the memory limit has killed; 0 where its control group is not seen."""
    for name in OOM_COUNTS:
        if os.path.exists(name):
            with open(name, encoding="ascii") as file:
                return sum(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
    return 0


def reap() -> None:
    """Wait for the killed processes; all that the program started have become children of this process."""
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        pass


def tell(mark: str, code: int, goes_on: bool, out_of_memory: bool = False) -> None:
    """Write to both outputs the mark, the program's exit status, and whether another program may follow."""
    told = f"{mark}{code:03d}{'!' if out_of_memory else '+' if goes_on else '-'}".encode()
    for output in (1, 2):
        left = told
        while left:
            left = left[os.write(output, left) :]


def left_nothing(settings: dict) -> bool:  # type: ignore[type-arg] # 3.8
    """Return whether an ended program left nothing behind for the next one; remove its files first."""
    if not is_empty(settings):
        cleaner = os.fork()
        if not cleaner:
            try:
                signal.alarm(CLEANING_SECONDS)
                become_user(*settings["user"])
                for folder in settings["landlock"]:
                    remove_content(folder)
            finally:
                os._exit(0)
        os.waitpid(cleaner, 0)
        if not is_empty(settings):
            return False
    return not has_connections()


def has_connections() -> bool:
    """Return whether the network namespace has a connection, or a closed one that keeps its port for a minute."""
    for name in CONNECTIONS:
        if not os.path.exists(name):
            return name == CONNECTIONS[0]  # without the file the answer is unknown, so a new sandbox is safer
        with open(name, encoding="ascii") as file:
            for line in file:
                words = line.split()
                counts = dict(zip(words[1::2], words[2::2]))
                if words[0] in ("TCP:", "TCP6:") and (counts.get("inuse") != "0" or counts.get("tw", "0") != "0"):
                    return True
    return False


def is_empty(settings: dict) -> bool:  # type: ignore[type-arg] # 3.8
    """Remove the working folder if it is empty, and return whether every place a program can write to is empty."""
    try:
        os.rmdir(settings["workdir"])
    except FileNotFoundError:
        pass
    except OSError:
        return False
    places = [*settings["landlock"], QUEUES]
    return not any(os.listdir(place) for place in places if os.path.exists(place))


def remove_content(folder: str) -> None:
    """Remove everything in a folder that this user may remove."""
    for entry in list(os.scandir(folder)):
        try:
            if entry.is_dir(follow_symlinks=False):
                os.chmod(entry.path, 0o700)
                remove_content(entry.path)
                os.rmdir(entry.path)
            else:
                os.unlink(entry.path)
        except OSError:
            pass  # the caller checks whether anything is left


def be_unseen() -> None:
    """Keep other processes of this user from reading this process's memory or using its descriptors."""
    LIBC.prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE


def adopt_orphans() -> None:
    """Make this process the parent of its descendants' orphans."""
    LIBC.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def prepare() -> None:
    """Make installed packages importable, as Python's usual start does, and import the modules of the harness."""
    import site

    stdout, sys.stdout = sys.stdout, sys.stderr  # site's start-up files may print
    site.main()
    for name in HARNESS_MODULES:
        __import__(name)
    sys.stdout = stdout


def main() -> None:
    """Restrict this process, then become one program, or run several programs in turn."""
    settings = json.loads(sys.argv[1])
    if settings.get("confinement"):
        confine(settings["confinement"])
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
    harnesses = {}  # type: ignore[var-annotated] # 3.8
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


def follow_program(program: int, mark: str, taken: int, settings: dict, last: bool) -> None:  # type: ignore[type-arg] # 3.8
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


def load_harness(header: dict, harnesses: dict) -> Any:  # type: ignore[type-arg] # 3.8
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


def begin(settings: dict, header: dict, harness: Any) -> None:  # type: ignore[type-arg] # 3.8
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


def run_harness(header: dict, harness: Any) -> None:  # type: ignore[type-arg] # 3.8
    """Run a program of the harness in this process."""
    os.closerange(3, 256)
    set_limits(header)
    os.environ.update(header["env"], HOME=os.getcwd())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    harness()
    os._exit(0)


def set_limits(header: dict) -> None:  # type: ignore[type-arg] # 3.8
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


def become_program(header: dict) -> None:  # type: ignore[type-arg] # 3.8
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


main()
