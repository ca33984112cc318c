"""Hostile programs on every backend: contained, reported as what they were, and the next run unaffected."""

import uuid

import pytest
from nad_sandbox.isolation.policy import WORKDIR, shared_memory_mb

from tests.integration.sandbox.conftest import run_quickly as run
from tests.integration.sandbox.leftovers import processes, wait_for


@pytest.fixture
def sandbox(any_sandbox):
    return any_sandbox


@pytest.fixture(autouse=True)
def next_run_is_unaffected(sandbox):
    yield
    result = sandbox.run_python("import os; print(sorted(os.listdir('.')), len(os.listdir('/proc')) < 80)")
    assert result.stdout == "['main.py'] True\n", result


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
    [
        "x = bytearray(10 << 30)\nprint(len(x))",
        "xs = []\nwhile True: xs.append(b'x' * (1 << 20))",
        "import mmap\nm = mmap.mmap(-1, 10 << 30)\nfor i in range(0, 10 << 30, 4096): m[i] = 1",
    ],
    ids=["at once", "slowly", "shared"],
)
def test_too_much_memory_is_refused_or_killed(sandbox, code):
    result = run(sandbox, code)
    assert not result.ok
    assert result.oom_killed or any(word in result.stderr for word in ("MemoryError", "Cannot allocate memory"))


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
    assert int(result.stdout) <= sandbox.limits.tmpfs_mb + shared_memory_mb(sandbox.limits) + 1


def test_a_million_files_are_stopped(sandbox):
    code = "n = 0\ntry:\n    for n in range(1000000): open(f'f{n}', 'w').close()\nexcept OSError as e:\n    print(n < 10000)"
    assert run(sandbox, code).stdout == "True\n"


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
    mark = uuid.uuid4().hex
    child = f"os.execvp('python3', ['python3', '-c', 'import time\\ntime.sleep(90)', '{mark}'])"
    code = f"""
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        {child}
    os._exit(0)
while not any('{mark}' in open(f'/proc/{{p}}/cmdline').read() for p in os.listdir('/proc') if p.isdigit() and int(p) > 1):
    time.sleep(0.01)
print('parent ends')
"""
    result = run(sandbox, code)
    assert (result.stdout, result.timed_out) == ("parent ends\n", False)
    assert wait_for(lambda: not processes(mark), 2)


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
    code = f"""
import os, time
for path in ('/tmp/left', '{WORKDIR}/left', '/dev/shm/left', '/var/tmp/left', os.path.expanduser('~/left')):
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
    folders = ("/tmp", WORKDIR, "/var/tmp", "/dev/shm")
    look = f"import os\nprint([f for d in {folders!r} if os.path.isdir(d) for f in os.listdir(d)])"
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
