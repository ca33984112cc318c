"""Hostile programs on every backend: contained, reported as what they were, and the next run unaffected."""

import os
import socket
import time
from pathlib import Path

import pytest

from tests.integration.sandbox.conftest import MAKE, opened

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


@pytest.fixture(scope="session", params=MAKE)
def sandbox(request):
    with opened(request.param) as made:
        yield made


@pytest.fixture(autouse=True)
def next_run_is_unaffected(sandbox):
    yield
    result = sandbox.run_python("import os; print(sorted(os.listdir('.')), len(os.listdir('/proc')) < 80)")
    assert result.stdout == "['main.py'] True\n", result


def run(sandbox, code, **options):
    started = time.monotonic()
    result = sandbox.run_python(code, **options)
    assert time.monotonic() - started < 12
    return result


@pytest.mark.parametrize(
    "code",
    ["while True: pass", "import time; time.sleep(60)",
     "import signal, time\nfor s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(s, signal.SIG_IGN)\ntime.sleep(60)",
     "import os, time\nos.close(1); os.close(2)\ntime.sleep(60)"],
    ids=["endless loop", "sleep", "signals ignored", "stdout closed then hanging"],
)  # fmt: skip
def test_what_never_ends_is_timed_out(sandbox, code):
    result = run(sandbox, "print('before', flush=True)\n" + code, timeout=1)
    assert result.timed_out
    assert result.returncode is None
    assert result.stdout == "before\n"


@pytest.mark.parametrize(
    "code",
    ["x = bytearray(10 << 30)\nprint(len(x))", "xs = []\nwhile True: xs.append(b'x' * (1 << 20))"],
    ids=["at once", "slowly"],
)
def test_too_much_memory_is_refused_or_killed(sandbox, code):
    result = run(sandbox, code)
    assert not result.ok
    assert result.oom_killed or "MemoryError" in result.stderr


def test_a_fork_bomb_runs_into_the_process_limit(sandbox):
    code = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    result = run(sandbox, code, timeout=1.5)
    assert result.timed_out


def test_a_thread_bomb_runs_into_the_process_limit(sandbox):
    code = "import threading, time\ncount = 0\ntry:\n    while True:\n        threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n        count += 1\nexcept RuntimeError:\n    print('stopped', count < 40, flush=True)\n    import os; os._exit(0)"
    assert run(sandbox, code).stdout == "stopped True\n"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_flood_is_cut(sandbox, stream):
    code = f"import os\nfor _ in range(1 << 14):\n    os.write({1 if stream == 'stdout' else 2}, b'x' * (1 << 16))"
    result = run(sandbox, code, timeout=3)
    assert result.output_truncated
    assert len(getattr(result, stream)) <= sandbox.limits.output_bytes + 200


def test_no_place_takes_more_than_its_share(sandbox):
    code = """
import os
written = 0
for folder, below, _ in os.walk('/'):
    if folder == '/':
        below[:] = set(below) - {'proc', 'sys'}
    try:
        with open(os.path.join(folder, 'fill'), 'wb') as f:
            while True:
                f.write(b'x' * (1 << 20)); f.flush(); written += 1
    except OSError:
        pass
print(written)
"""
    result = run(sandbox, code, timeout=10)
    assert result.ok, result
    assert int(result.stdout) <= sandbox.limits.tmpfs_mb + 1


def test_a_million_files_are_stopped(sandbox):
    code = "n = 0\ntry:\n    for n in range(1000000): open(f'f{n}', 'w').close()\nexcept OSError as e:\n    print(n < 10000)"
    assert run(sandbox, code).stdout == "True\n"


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
print('NAD_HOST_SECRET' in os.environ, os.getuid(), os.path.exists('/dev/sda'))
"""
    try:
        assert run(sandbox, code).stdout == "False 65534 False\n"
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
for path in ('/x', '/etc/x', '/usr/x', sys.executable, os.__file__, '/dev/shm/x', '/proc/sys/kernel/core_pattern', '/sys/x', '/dev/x'):
    try:
        open(path, 'a').write('x'); print('wrote', path)
    except OSError:
        pass
print('end')
"""
    assert run(sandbox, code).stdout == "end\n"


def test_nothing_written_can_be_executed(sandbox):
    code = "import os, subprocess\nopen('x', 'w').write('#!/bin/sh\\necho ran')\nos.chmod('x', 0o4777)\ntry:\n    subprocess.run(['./x'])\nexcept PermissionError:\n    print('refused')"
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


def test_no_privilege_can_be_had(sandbox):
    code = "import os\nfor f in (os.setuid, os.setgid):\n    try:\n        f(0); print('root')\n    except OSError:\n        pass\nstatus = open('/proc/self/status').read()\nprint('CapEff:\\t0000000000000000' in status, 'NoNewPrivs:\\t1' in status, 'Seccomp:\\t2' in status)"
    assert run(sandbox, code).stdout == "True True True\n"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86-64")
@pytest.mark.parametrize("name", SYSCALLS)
def test_a_dangerous_system_call_is_refused(sandbox, name):
    result = run(sandbox, DENIED.format(arguments=SYSCALLS[name]))
    assert result.stdout in ("-1 EPERM\n", "-1 ENOSYS\n"), result


@pytest.mark.parametrize(
    ("code", "signal"),
    [("import ctypes; ctypes.string_at(0)", 11), ("import os; os.abort()", 6)],
    ids=["segmentation fault", "abort"],
)
def test_a_crash_is_reported_as_its_signal(sandbox, code, signal):
    assert run(sandbox, code).returncode in (-signal, 128 + signal)


def test_deep_recursion_is_the_programs_own_failure(sandbox):
    assert "RecursionError" in run(sandbox, "def f(): f()\nf()").stderr
    code = "import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nclass A:\n    def __getattr__(s, n): return getattr(s, n)\ngetattr(A(), 'x')"
    assert not run(sandbox, code).ok


def test_a_daemonised_grandchild_does_not_outlive_the_run(sandbox):
    code = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(60)\n    os._exit(0)\nprint('parent ends')"
    result = run(sandbox, code)
    assert result.stdout == "parent ends\n"
    assert result.duration < 4


def test_binary_output_is_text_with_replacement(sandbox):
    result = run(sandbox, "import os\nos.write(1, bytes(range(256)))")
    assert result.ok
    assert "\N{REPLACEMENT CHARACTER}" in result.stdout


def test_a_source_of_100_mb_is_refused_and_nul_bytes_fail(sandbox):
    result = run(sandbox, "x = 1\n" + "#" * (100 << 20))
    assert result.returncode == 126
    assert "tmpfs_mb" in result.stderr
    assert "null bytes" in run(sandbox, "compile('x = 1\\0', 'x', 'exec')").stderr
    assert run(sandbox, "x = 1\0\n").returncode in (0, 1)  # the interpreter's choice, which differs by version


@pytest.mark.parametrize("target", ["-1", "os.getppid()", "1", "0"])
def test_killing_its_supervisor_ends_only_itself(sandbox, target):
    code = f"import os, signal\ntry:\n    os.kill({target}, signal.SIGKILL)\nexcept OSError:\n    pass\nprint('alive')"
    result = run(sandbox, code)
    assert not result.timed_out
    assert result.returncode is not None


def test_what_one_run_leaves_the_next_does_not_find(sandbox):
    code = """
import os, time
for path in ('/tmp/left', '/tmp/work/left', '/dev/shm/left', '/var/tmp/left', os.path.expanduser('~/left')):
    try:
        open(path, 'w').write('x')
    except OSError:
        pass
if os.fork() == 0:
    os.setsid()
    open('/tmp/child', 'w').write('x')
    time.sleep(60)
"""
    assert run(sandbox, code).ok
    look = "import os\nprint([f for d in ('/tmp', '/tmp/work', '/var/tmp', '/dev/shm') if os.path.isdir(d) for f in os.listdir(d)])"
    assert run(sandbox, look + "\nprint(len([p for p in os.listdir('/proc') if p.isdigit()]) <= 3)").stdout == (
        "['work', 'main.py']\nTrue\n"
    )


def test_output_that_is_no_text_is_kept(sandbox):
    result = run(sandbox, "import os\nos.write(1, b'a\\xff\\xc3(b')\nos.write(2, b'\\x00\\xf0')")
    assert (result.stdout, result.stderr) == ("a\ufffd\ufffd(b", "\0\ufffd")


def test_partial_output_and_the_three_kinds_of_end_are_told_apart(sandbox):
    failed = run(sandbox, "print('x')\nraise SystemExit(3)")
    assert (failed.returncode, failed.timed_out, failed.stdout) == (3, False, "x\n")
    limited = run(sandbox, "print('y', flush=True)\nwhile True: pass", timeout=0.5)
    assert (limited.returncode, limited.timed_out, limited.stdout) == (None, True, "y\n")
