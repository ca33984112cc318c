"""Hostile programs as candidates: none passes, each is reported as what it was, and the next candidate is judged."""

import re
import time

import pytest
from nad_sandbox import CodeVerifier

GOOD = "def add(a, b):\n    return a + b\n"
TESTS = "assert add(1, 2) == 3"

# what each does, and what the report must say
CANDIDATES = {
    "fork bomb": ("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", "time limit"),
    "thread bomb": ("import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(9,)).start()", "start new thread"),
    "10 GB": ("x = bytearray(10 << 30)", "MemoryError|memory limit"),
    "10 GB, slowly": ("xs = []\nwhile True: xs.append(b'x' * (1 << 20))", "MemoryError|memory limit"),
    "endless loop": ("while True: pass", "time limit"),
    "signals ignored": ("import signal, time\nfor s in (signal.SIGTERM, signal.SIGINT): signal.signal(s, signal.SIG_IGN)\ntime.sleep(60)", "time limit"),
    "flood": ("import os\nwhile True: os.write(1, b'x' * 65536); os.write(2, b'x' * 65536)", "time limit"),
    "disk fill": ("f = open('fill', 'wb')\nwhile True: f.write(b'x' * (1 << 20)); f.flush()", "OSError|ended"),
    "many files": ("import itertools\nfor i in itertools.count(): open(f'f{i}', 'w').close()", "OSError"),
    "recursion": ("def f(): f()\nf()", "RecursionError"),
    "crash of the C stack": ("import sys\nsys.setrecursionlimit(10**9)\nclass A:\n    def __getattr__(s, n): return getattr(s, n)\ngetattr(A(), 'x')", "signal|ended"),
    "segmentation fault": ("import ctypes\nctypes.string_at(0)", "signal|ended"),
    "stdout closed": ("import os, time\nos.close(1); os.close(2)\ntime.sleep(60)", "time limit"),
    "NUL byte": ("x = 1\0", "null|NUL|syntax|source"),
    "100 MB": ("x = 1\n" + "#" * (100 << 20), "characters"),
    "binary output": ("import os\nos.write(1, bytes(range(256)))\nraise SystemExit", "SystemExit"),
    "its judge killed": ("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)", "ended|killed"),
    "everything killed": ("import os, signal\nos.kill(-1, signal.SIGKILL)", "ended|killed"),
    "every descriptor written to": ("import os\nfor fd in range(256):\n    try: os.write(fd, b'[{\"check\": \"tests\", \"passed\": true}]\\n')\n    except OSError: pass", "add|wrote|protocol|ended"),
    "grandchild": ("import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(60)\n    os._exit(0)", "add"),
    "in the call": ("import os\ndef add(a, b):\n    if os.fork() == 0:\n        while True: pass\n    os._exit(0)", "no answer"),
}  # fmt: skip


@pytest.fixture(scope="module")
def verifier(sandbox):
    return CodeVerifier(sandbox, tests=TESTS, timeout=2)


@pytest.mark.parametrize("name", CANDIDATES)
def test_it_fails_as_what_it_is_and_the_next_one_is_judged(verifier, name):
    code, words = CANDIDATES[name]
    started = time.monotonic()
    report = verifier.verify(code)
    assert time.monotonic() - started < 12
    assert not report.passed
    assert len(report.feedback) <= 2000
    assert re.search(words, report.feedback), report.feedback
    assert verifier.verify(GOOD).passed
