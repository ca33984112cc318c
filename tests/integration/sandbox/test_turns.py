"""Programs that are checked in turn in one sandbox: none meets what another left, and none reaches who runs them."""

import pytest
from nad_sandbox import BubblewrapSandbox, CodeVerifier, DockerSandbox

from tests.integration.sandbox.conftest import LIMITS

BACKENDS = {
    "docker": lambda: DockerSandbox(limits=LIMITS, parallel=1, build=True),
    "bubblewrap": lambda: BubblewrapSandbox(limits=LIMITS, parallel=1),
}
WHERE = "assert where() == 1"
# what the place says of the programs before this one
LOOK = """
import os
def where():
    found = [os.path.join(top, name) for root in ("/tmp", "/dev/shm", "/dev/mqueue") if os.path.exists(root)
             for top, folders, files in os.walk(root) for name in folders + files]
    processes = [open("/proc/%s/comm" % pid).read() for pid in os.listdir("/proc") if pid.isdigit()]
    raise SystemExit(repr([sorted(found), len(processes), os.getpid()]))
"""
LEAVE = {
    "nothing": "",
    "files": "import os\nos.makedirs('/tmp/work/a/b')\nopen('/tmp/x', 'w').write('x')\nopen('/dev/shm/y', 'w').write('y')",
    "a folder that nobody may enter": "import os\nos.makedirs('a/b/c')\nos.chmod('a/b', 0)\nos.chmod('a', 0)",
    "a file in a folder as deep as can be": "import os\nfor _ in range(3000):\n    os.mkdir('d'); os.chdir('d')\nopen('f', 'w').write('x')",
    "no working folder": "import os\nos.rmdir('/tmp/work')",
    "another working folder": "import os\nos.rmdir('/tmp/work')\nos.symlink('/dev/shm', '/tmp/work')",
    "processes": "import os, time\nfor _ in range(5):\n    if not os.fork():\n        os.setsid(); time.sleep(60)",
    "a process that forks and forks": "import os\nif not os.fork():\n    os.setsid()\n    while True:\n        if os.fork(): os._exit(0)",
    "stopped processes": "import os, signal\nif not os.fork():\n    os.setsid(); os.kill(os.getpid(), signal.SIGSTOP)",
    "a connection": """
import socket
listening = socket.create_server(('127.0.0.1', 8000)); a = socket.create_connection(('127.0.0.1', 8000)); b, _ = listening.accept()
b.close(); a.close(); listening.close()
""",
    "a message queue": "import os\nopen('/dev/mqueue/q', 'w')",
    "limits of its parents": """
import resource, os
for pid in (1, 2, 3, os.getppid()):
    for kind in range(16):
        try: resource.prlimit(pid, kind, (0, 0))
        except (OSError, ValueError): pass
""",
    "a lower priority of everybody": "import os\nfor kind in (0, 1, 2):\n    for who in (0, 1, 2, os.getppid(), os.getuid()):\n        try: os.setpriority(kind, who, 19)\n        except OSError: pass",
    "signals": "import os, signal\nfor pid in (1, 2, 3, -1, os.getppid()):\n    for number in (signal.SIGSTOP, signal.SIGTERM):\n        try: os.kill(pid, number) if pid != -1 else None\n        except OSError: pass",
}


@pytest.fixture(scope="module", params=BACKENDS)
def sandbox(request):
    with BACKENDS[request.param]() as made:
        yield made


def said(sandbox, code, tests=WHERE):
    report = CodeVerifier(sandbox, tests=tests, checks=()).verify(code, prompt="")
    return report, report.checks[-1].error


@pytest.mark.parametrize("kind", LEAVE)
def test_the_next_program_finds_what_the_first_one_found(sandbox, kind):
    first = said(sandbox, LOOK)[1]
    said(sandbox, LEAVE[kind] + "\ndef where():\n    return 1")
    # one that has to make a new sandbox first is as good
    second = said(sandbox, LOOK)[1]
    assert "/tmp/work" in first
    assert first.rpartition(",")[0] == second.rpartition(",")[0]
    report, error = said(sandbox, "def where():\n    return 1")
    assert report.passed, error
    assert report.trust == "separate"


def process_id(sandbox):
    return int(said(sandbox, "import os\ndef where(): raise SystemExit(os.getpid())")[1].rpartition(" ")[2])


def test_a_sandbox_is_used_again_as_long_as_nothing_is_left(sandbox):
    sandbox.wait_ready()
    numbers = [process_id(sandbox) for _ in range(4)]
    assert numbers == sorted(set(numbers))  # they go up in one sandbox
    said(sandbox, LEAVE["a file in a folder as deep as can be"] + "\ndef where():\n    return 1")
    sandbox.wait_ready()
    assert process_id(sandbox) < numbers[-1]


def test_a_program_that_is_no_check_gets_a_sandbox_of_its_own(sandbox):
    look = "import os\nprint(sorted(os.listdir('/tmp')), os.listdir('/dev/shm'))\nopen('/tmp/left', 'w')"
    for _ in range(3):
        assert sandbox.run_python(look).stdout == "['work'] []\n"
        said(sandbox, LOOK)
