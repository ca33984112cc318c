"""The program that waits inside a sandbox for the one program to run, then becomes that program.

Its source is passed to ``python3 -I -S -c``: it runs in the sandbox's own interpreter (3.8 or later), uses only the
standard library, and is never imported. In order:

1. It restricts itself by the backend's confinement, where that cannot be set up from outside, and by Landlock, where
   the backend asks for it and the kernel has it.
2. It writes to standard output that it is ready, with the version of this Python, and waits on standard input.
3. It reads the feed: header, the program's standard input, files.
4. It replaces itself by the program, which inherits only the descriptors 0, 1 and 2 and cannot reach the feed's pipe.
   If the feed has a mark, a forked process becomes the program; this process then kills everything that the program
   leaves running, and reports its exit status. A program of the harness is not a candidate's: this interpreter runs
   it, and it reads the rest of the feed itself.

Its own exit codes are 126 (the program could not be set up or executed) and 127 (the program was not found).
"""

# pathlib takes longer to import than all of this
# ruff: noqa: PTH103, PTH108, PTH109, PTH110, PTH112, PTH120, PTH208

from __future__ import annotations

import json
import os
import signal
import sys

READY = b"\x06"
READY_SIZE = 16
FEED_CHUNK = 1 << 18


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
    """Mount the scratch space, become nobody and drop every capability."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    for place, options in settings["writable"].items():
        # flags: nosuid, nodev, noexec; if a security module forbids the mount, the plain tmpfs already there is used
        libc.mount(b"tmpfs", place.encode(), b"tmpfs", ctypes.c_ulong(2 | 4 | 8), options.encode())
    for capability in range(64):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
    if settings["user"] is not None:
        os.setgroups([])
        user, group = settings["user"]
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if libc.prctl(47, 4, 0, 0, 0) < 0 or libc.capset(header, nothing) < 0:  # PR_CAP_AMBIENT, clear all
        raise OSError(ctypes.get_errno(), "capset")


def load_filter(program: bytes) -> None:
    """Make the kernel check every system call from now on."""
    import ctypes
    import struct

    libc = ctypes.CDLL(None, use_errno=True)
    text = ctypes.create_string_buffer(program, len(program))
    pointer = struct.pack("HP", len(program) // 8, ctypes.addressof(text))
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS, which filters ask for
    if libc.prctl(22, 2, pointer, 0, 0) < 0:  # PR_SET_SECCOMP
        raise OSError(ctypes.get_errno(), "seccomp")


def restrict_with_landlock(writable: list[str]) -> None:
    """Deny writes outside the writable folders, execution inside them, TCP, and signals and sockets to outside."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    abi = libc.syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
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
    ruleset = libc.syscall(444, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
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
        if libc.syscall(445, ruleset, 1, rule, ctypes.c_uint32(0)) < 0:
            raise OSError(ctypes.get_errno(), "landlock_add_rule " + path)
        os.close(folder)
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS, which Landlock asks for
    if libc.syscall(446, ruleset, ctypes.c_uint32(0)) < 0:
        raise OSError(ctypes.get_errno(), "landlock_restrict_self")
    os.close(ruleset)


def fail(code: int, message: str) -> None:
    """Write why the program was not run to standard error, and end the process with an exit code."""
    os.write(2, ("nad_sandbox: " + message + "\n").encode("utf-8", "replace"))
    os._exit(code)


def watch(program: int, mark: str) -> None:
    """Wait for the program, kill everything that it started, and write to both outputs how it ended."""
    import select

    status = os.waitpid(program, 0)[1]
    for _ in range(1000):
        try:
            os.kill(-1, signal.SIGKILL)  # kills all processes but this one and the sandbox's first
        except ProcessLookupError:
            break
        select.select([], [], [], 0.001)
    code = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    for output in (1, 2):
        told = f"{mark}{code:03d}".encode()
        while told:
            told = told[os.write(output, told) :]
    os._exit(code)


def be_unseen() -> None:
    """Keep other processes of this user from reading this one's memory or using its descriptors."""
    import ctypes

    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE


def main() -> None:
    """Confine this process, wait for the feed, and become the program."""
    settings = json.loads(sys.argv[1])
    workdir = settings["workdir"]
    if settings.get("confinement"):
        confine(settings["confinement"])
    os.makedirs(workdir, mode=0o700, exist_ok=True)
    os.chdir(workdir)
    if settings["landlock"]:
        restrict_with_landlock(settings["landlock"])
    if settings.get("confinement"):
        load_filter(bytes.fromhex(settings["confinement"]["filter"]))
    version = sys.version.split()[0].encode()
    os.write(1, (READY + version).ljust(READY_SIZE)[:READY_SIZE])
    header = json.loads(read_exactly(int.from_bytes(read_exactly(8), "big")))
    if header["harness"]:
        run_harness(header, read_exactly(header["harness"]))
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
    if header["mark"]:
        part_from(header.pop("mark"))
    become_program(header)


def part_from(mark: str) -> None:
    """Continue in a forked process, which the old process watches."""
    be_unseen()
    program = os.fork()
    if program:
        watch(program, mark)
    os.setpgid(0, 0)


def run_harness(header: dict, program: bytes) -> None:  # type: ignore[type-arg] # 3.8
    """Run a program of the harness in this interpreter, with built-in names that a candidate cannot replace."""
    import builtins
    import marshal

    os.closerange(3, 256)
    be_unseen()
    if header["mark"]:
        part_from(header.pop("mark"))
    set_limits(header)
    os.environ.update(header["env"], HOME=os.getcwd())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    code = marshal.loads(program) if header["compiled"] else compile(program, "harness.py", "exec", dont_inherit=True)
    del header, program
    exec(code, {"__builtins__": dict(vars(builtins))})
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
    try:
        os.execvpe(argv[0], argv, environment)
    except FileNotFoundError:
        fail(127, "there is no program " + repr(argv[0]) + " in the sandbox")
    except OSError as error:
        fail(126, "the program " + repr(argv[0]) + " cannot be executed: " + str(error.strerror))


main()
