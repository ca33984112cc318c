"""What programs cannot see, reach, change or become, on every backend."""

import contextlib
import ctypes
import os
import signal
import socket
from pathlib import Path

import pytest
from nad_sandbox.isolation.sandbox_user import NOBODY, UNUSED_USERS

from tests.integration.sandbox.conftest import LIMITS
from tests.integration.sandbox.conftest import run_quickly as run

DENIED = """
import ctypes, errno, sys
libc = ctypes.CDLL(None, use_errno=True)
result = libc.syscall(*{arguments})
print(result, errno.errorcode.get(ctypes.get_errno()))
"""
# x86-64 numbers
SYSCALLS = {
    "ptrace": (101, 0, 0, 0, 0),
    "io_uring_setup": (425, 8, 0),
    "keyctl": (250, 0, 0),
    "add_key": (248, 0, 0, 0, 0, 0),
    "bpf": (321, 0, 0, 0),
    "userfaultfd": (323, 0),
    "perf_event_open": (298, 0, 0, -1, -1, 0),
    "mount": (165, 0, 0, 0, 0, 0),
    "umount2": (166, 0, 0),
    "unshare": (272, 0x10000000),
    "setns": (308, 0, 0),
    "pivot_root": (155, 0, 0),
    "process_vm_readv": (310, 1, 0, 0, 0, 0, 0),
    "init_module": (175, 0, 0, 0),
    "reboot": (169, 0, 0, 0, 0),
    "open_by_handle_at": (304, 0, 0, 0),
}


@pytest.fixture
def sandbox(any_sandbox):
    return any_sandbox


def test_the_host_is_not_seen(sandbox):
    secret = Path("/tmp/nad-host-secret")
    secret.write_text("secret")
    os.environ["NAD_HOST_SECRET"] = "secret"
    code = """
import os
for path in ('/tmp/nad-host-secret', '/var/run/docker.sock', '/run/docker.sock', '/etc/shadow', '/proc/1/environ', '/proc/1/mem', '/proc/1/root'):
    try:
        print(path, (os.listdir if os.path.isdir(path) else open)(path))
    except OSError:
        pass
print('NAD_HOST_SECRET' in os.environ, os.path.exists('/dev/sda'), os.getuid())
"""
    try:
        seen, user = run(sandbox, code).stdout.rsplit(" ", 1)
        assert seen == "False False"
        assert int(user) == NOBODY or int(user) in UNUSED_USERS
    finally:
        secret.unlink()
        del os.environ["NAD_HOST_SECRET"]


def test_there_is_no_network(sandbox):
    code = """
import socket
for family, kind, address in (
    (socket.AF_INET, socket.SOCK_STREAM, ('1.1.1.1', 53)), (socket.AF_INET, socket.SOCK_DGRAM, ('8.8.8.8', 53)),
    (socket.AF_INET, socket.SOCK_STREAM, ('169.254.169.254', 80)), (socket.AF_INET, socket.SOCK_STREAM, ('172.17.0.1', 22)),
    (socket.AF_INET6, socket.SOCK_STREAM, ('fd00:ec2::254', 80)),
    (socket.AF_UNIX, socket.SOCK_STREAM, '\\0nad-test-abstract'), (socket.AF_UNIX, socket.SOCK_STREAM, '/var/run/docker.sock'),
):
    try:
        s = socket.socket(family, kind); s.settimeout(1); s.connect(address); s.send(b'x'); print('sent', address)
    except OSError:
        pass
try:
    print(socket.getaddrinfo('example.org', 80))
except OSError:
    pass
try:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW); print('raw')
except OSError:
    pass
print('end')
"""
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_INET) as reachable:
        listening.bind("\0nad-test-abstract")  # there really is somebody to talk to
        listening.listen()
        reachable.bind(("127.0.0.1", 0))
        reachable.listen()
        code = code.replace("('172.17.0.1', 22)", str(("127.0.0.1", reachable.getsockname()[1])))
        assert run(sandbox, code).stdout == "end\n"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiving:
        receiving.bind(("127.0.0.1", 0))
        run(
            sandbox,
            f"import socket\nsocket.socket(type=socket.SOCK_DGRAM).sendto(b'x', {receiving.getsockname()!r})",
        )
        receiving.setblocking(False)
        with pytest.raises(BlockingIOError):  # it reached its own loopback at most
            receiving.recv(1)


def test_the_system_and_the_interpreter_are_read_only(sandbox):
    code = """
import os, sys
for path in ('/x', '/etc/x', '/usr/x', sys.executable, os.__file__, '/opt/nad-sandbox/packages/pytest/__init__.py', '/proc/sys/kernel/core_pattern', '/sys/x', '/dev/x'):
    try:
        open(path, 'a').write('x'); print('wrote', path)
    except OSError:
        pass
print('end')
"""
    assert run(sandbox, code).stdout == "end\n"


@pytest.mark.parametrize("path", ["./x", "/tmp/x", "/dev/shm/x"])
def test_nothing_written_can_be_executed(sandbox, path):
    code = f"import os, subprocess\nopen({path!r}, 'w').write('#!/bin/sh\\necho ran')\nos.chmod({path!r}, 0o4777)\ntry:\n    subprocess.run([{path!r}])\nexcept PermissionError:\n    print('refused')"
    assert run(sandbox, code).stdout == "refused\n"
    code = """
import glob, mmap, os, shutil, subprocess
shutil.copy('/bin/true', 'copy')
print(subprocess.run([*glob.glob('/lib64/ld-linux*')[:1], './copy'], stderr=subprocess.DEVNULL).returncode != 0)
try:
    mmap.mmap(os.open('copy', os.O_RDWR), 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)
except PermissionError:
    print('refused')
print(hasattr(os, 'memfd_create'))
try:
    os.memfd_create('x')
except PermissionError:
    print('refused')
"""
    assert run(sandbox, code).stdout == "True\nrefused\nTrue\nrefused\n"


def landlock_version():
    return ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1))


@pytest.mark.skipif(landlock_version() < 4, reason="a kernel whose Landlock knows no TCP")
def test_landlock_holds_on_top_of_everything_else(sandbox):
    # the sandbox's own loopback would let a program do this
    code = """
import socket
for action in (lambda s: s.bind(('127.0.0.1', 0)), lambda s: s.connect(('127.0.0.1', 9))):
    try:
        action(socket.socket()); print('allowed')
    except OSError as error:
        print(type(error).__name__)
"""
    assert run(sandbox, code).stdout == "PermissionError\nPermissionError\n"


def test_signals_that_are_ignored_outside_are_not_inside(sandbox):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with type(sandbox)(limits=LIMITS) if hasattr(sandbox, "parallel") else contextlib.nullcontext(sandbox) as fresh:
            ignored = int(fresh.exec(["grep", "SigIgn", "/proc/self/status"]).stdout.split()[1], 16)
    finally:
        signal.signal(signal.SIGHUP, before)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM, signal.SIGXFSZ):
        assert not ignored & (1 << (number - 1))


def test_no_privilege_can_be_had(sandbox):
    code = "import os\nfor f in (os.setuid, os.setgid):\n    try:\n        f(0); print('root')\n    except OSError:\n        pass\nstatus = open('/proc/self/status').read()\nprint('CapEff:\\t0000000000000000' in status, 'NoNewPrivs:\\t1' in status, 'Seccomp:\\t2' in status)"
    assert run(sandbox, code).stdout == "True True True\n"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86-64")
@pytest.mark.parametrize("name", SYSCALLS)
def test_a_dangerous_system_call_is_refused(sandbox, name):
    result = run(sandbox, DENIED.format(arguments=SYSCALLS[name]))
    assert result.stdout in ("-1 EPERM\n", "-1 ENOSYS\n"), result
