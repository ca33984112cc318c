"""Sessions of every backend: files persist, limits hold, nothing gets out, and nothing is left."""

import asyncio
import os
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from nad_sandbox import (
    AutoSandbox,
    Limits,
    SandboxFailureError,
    SandboxUnavailableError,
    UnsafeLocalSandbox,
    auto_sandbox,
    reap_leftovers,
)

from tests.integration.sandbox.leftovers import control_groups, labels, processes, wait_for

LIMITS = Limits(timeout=20.0, memory_mb=160, pids=32, tmpfs_mb=24, fsize_mb=8, output_bytes=64 * 1024)

SERVER = """
import itertools, socket
listener = socket.socket(socket.AF_UNIX)
listener.bind("socket")
listener.listen()
for count in itertools.count(1):
    with listener.accept()[0] as connection:
        connection.sendall(b"%d" % count)
"""
CLIENT = """
import socket, time
for _ in range(200):
    try:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect("socket")
        print(connection.recv(9).decode())
        break
    except OSError:
        time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def session(any_sandbox):
    with any_sandbox.open_session(limits=LIMITS) as made:
        yield made


def test_files_and_folders_persist_from_command_to_command(session):
    assert session.execute("mkdir -p a/b && echo one > a/b/file && ln -s a/b/file link").ok
    session.upload("a/c/deep/file.bin", bytes(range(256)))
    result = session.execute("cat link; wc -c < a/c/deep/file.bin; pwd")
    assert result.stdout.split() == ["one", "256", session.workdir]
    assert session.download("link") == b"one\n"
    assert session.download(f"{session.workdir}/a/c/deep/file.bin") == bytes(range(256))


def test_a_program_is_written_run_and_mended(session):
    session.upload("add.py", b"def add(a, b):\n    return a - b\n")
    session.upload("check.py", b"from add import add\nassert add(1, 2) == 3, add(1, 2)\nprint('right')\n")
    failed = session.execute(["python3", "check.py"])
    assert failed.returncode == 1
    assert "AssertionError: -1" in failed.stderr
    session.upload("add.py", b"def add(a, b):\n    return a + b\n")
    assert session.execute(["python3", "check.py"]).stdout == "right\n"


def test_commands_get_input_environment_and_folder(session):
    session.execute("mkdir -p inner")
    result = session.execute("cat; echo $WORD; pwd; echo $HOME", stdin="typed\n", env={"WORD": "said"}, cwd="inner")
    assert result.stdout.split() == ["typed", "said", f"{session.workdir}/inner", session.workdir]
    missing = session.execute("true", cwd="nowhere")
    assert missing.returncode == 126
    assert "'nowhere' cannot be entered: No such file" in missing.stderr


def test_both_outputs_are_apart_or_in_the_order_of_writing(session):
    command = "echo 1; echo 2 >&2; echo 3"
    apart = session.execute(command)
    assert (apart.stdout, apart.stderr) == ("1\n3\n", "2\n")
    merged = session.execute(command, merge_output=True)
    assert (merged.stdout, merged.stderr) == ("1\n2\n3\n", "")


def test_statuses_are_those_of_a_shell(session):
    assert session.execute("exit 7").returncode == 7
    assert session.execute(["there-is-no-such-program"]).returncode == 127
    assert session.execute(["/etc/passwd"]).returncode == 126
    assert session.execute("kill -TERM $$").returncode == 128 + 15


def test_a_command_that_takes_too_long_is_killed_and_the_session_lives_on(session):
    session.upload("kept", b"kept")
    started = time.monotonic()
    result = session.execute("echo begun; sleep 60 & sleep 60", timeout=0.5)
    assert time.monotonic() - started < 10
    assert (result.timed_out, result.returncode, result.stdout) == (True, None, "begun\n")
    assert session.download("kept") == b"kept"
    assert session.execute("grep -l sleep /proc/[0-9]*/comm").stdout == ""


def test_a_command_that_ignores_signals_and_leaves_its_group_is_killed(session):
    code = (
        "import os, signal, time\n"
        "for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "if not os.fork():\n"
        "    os.setsid()\n"
        "time.sleep(60)\n"
    )
    session.upload("stubborn.py", code.encode())
    assert session.execute("python3 stubborn.py", timeout=0.8).timed_out
    # the bootstrap program alone is left
    assert session.execute("grep -l python3 /proc/[0-9]*/comm | wc -l").stdout.strip() == "1"


def test_processes_that_a_command_leaves_end_with_it(session):
    assert session.execute("sleep 60 >/dev/null 2>&1 &").ok
    assert session.execute("grep -l sleep /proc/[0-9]*/comm").stdout == ""


def test_background_processes_live_on_until_the_session_ends(any_sandbox):
    with any_sandbox.open_session(limits=LIMITS, background=True) as session:
        session.upload("server.py", SERVER.encode())
        session.upload("client.py", CLIENT.encode())
        session.execute("python3 server.py >log 2>&1 &")
        assert session.execute(["python3", "client.py"]).stdout == "1\n"
        # a command that is killed does not take them with it
        assert session.execute("sleep 60", timeout=0.3).timed_out
        assert session.execute(["python3", "client.py"]).stdout == "2\n"


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/etc/x", (PermissionError, OSError)),
        ("/x/y", (PermissionError, OSError)),
        ("/tmp", IsADirectoryError),
        ("pipe", OSError),
        ("file/below", OSError),
    ],
)
def test_a_file_that_cannot_be_written_is_the_error_of_the_system(session, path, error):
    session.execute("rm -rf pipe file; mkfifo pipe || python3 -c 'import os; os.mkfifo(\"pipe\")'; touch file")
    with pytest.raises(error) as raised:
        session.upload(path, b"x" * 300_000)
    assert raised.value.filename == path
    assert session.execute("true").ok


def test_a_file_that_cannot_be_read_is_the_error_of_the_system(session):
    session.execute(
        "rm -rf secret pipe; echo x > secret; chmod 000 secret; python3 -c 'import os; os.mkfifo(\"pipe\")'"
    )
    for path, error in (
        ("missing", FileNotFoundError),
        ("/tmp", IsADirectoryError),
        ("secret", PermissionError),
        ("pipe", OSError),
        ("/dev/zero", OSError),
    ):
        with pytest.raises(error) as raised:
            session.download(path)
        assert raised.value.filename == path
    session.upload("ten", b"0123456789")
    with pytest.raises(OSError, match="too large"):
        session.download("ten", max_bytes=9)
    assert session.download("ten", max_bytes=10) == b"0123456789"
    for wrong in ("", "a\0b"):
        with pytest.raises(ValueError, match="names no file"):
            session.download(wrong)


def test_no_path_and_no_link_leads_to_a_file_of_the_host(session, tmp_path):
    tmp_path.chmod(0o755)
    secret = tmp_path / "secret.txt"
    secret.write_text("of the host")
    secret.chmod(0o666)
    climbing = "../" * 12 + str(secret).lstrip("/")
    session.execute(f"ln -sf {secret} link; ln -sfn / root")
    for path in (str(secret), climbing, "link", f"root{secret}"):
        with pytest.raises(OSError, match=r"No such file|Not a directory|denied"):
            session.download(path)
    for path in (climbing, "link"):
        try:
            session.upload(path, b"changed")
        except OSError:
            continue
    assert secret.read_text() == "of the host"
    assert b"root:x:0:0" in session.download("root/etc/passwd")
    assert session.download("root/etc/passwd") != Path("/etc/passwd").read_bytes()


def test_the_limits_hold_for_the_session_as_a_whole(session):
    with pytest.raises(OSError, match="too large"):
        session.upload("big", b"x" * (9 * 2**20))
    assert session.execute("ls big").returncode != 0
    session.upload("first", b"x" * (8 * 2**20))
    session.upload("second", b"x" * (8 * 2**20))
    with pytest.raises(OSError, match="No space left"):
        session.upload("third", b"x" * (8 * 2**20))
    session.execute("rm -f first second")
    eaten = session.execute(["python3", "-c", "x = bytearray(400 * 2**20)"])
    assert eaten.oom_killed
    assert not eaten.ok
    assert session.execute(["python3", "-c", "print(len(bytearray(20 * 2**20)))"]).ok
    forks = "import os, time\nn = 0\ntry:\n    while n < 500:\n        if not os.fork(): time.sleep(30); os._exit(0)\n        n += 1\nexcept OSError: pass\nprint(n)"
    assert int(session.execute(["python3", "-c", forks]).stdout) < 40
    assert session.execute("true").ok


def test_output_beyond_the_limit_loses_its_middle(session):
    result = session.execute(["python3", "-c", "print('a' * 200_000 + 'z')"])
    assert result.output_truncated
    assert len(result.stdout) < 66_000
    assert result.stdout.startswith("aaa")
    assert result.stdout.endswith("z\n")


def test_there_is_no_network_and_nothing_of_the_host(session):
    attempt = "import socket\ntry:\n    socket.create_connection(('1.1.1.1', 53), timeout=1)\nexcept OSError as error: print('none')"
    assert session.execute(["python3", "-c", attempt]).stdout == "none\n"
    assert session.execute("touch /usr/x; touch /etc/x").returncode != 0
    assert session.execute("id -u").stdout.strip() != "0"


def test_sessions_at_once_see_nothing_of_each_other(any_sandbox):
    def use(number):
        with any_sandbox.open_session(limits=LIMITS) as session:
            session.upload("mine", str(number).encode())
            session.upload("/tmp/everybody", str(number).encode())
            seen = session.execute("cat mine /tmp/everybody; echo; ls /tmp; ls /dev/shm; ls")
            return session.id, seen.stdout.split()

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(use, range(4)))
    assert len({name for name, _ in found}) == 4
    for number, (_, seen) in enumerate(found):
        assert seen == [f"{number}{number}", "everybody", "work", "mine"]


def test_a_program_that_kills_all_it_can_harms_at_most_its_own_session(any_sandbox):
    with any_sandbox.open_session(limits=LIMITS) as session, any_sandbox.open_session(limits=LIMITS) as other:
        other.upload("kept", b"kept")
        session.execute("kill -9 -1; kill -STOP -1; for p in 1 2 3 4; do kill -9 $p; done", timeout=3)
        try:
            assert session.execute("echo on").stdout == "on\n"
        except SandboxFailureError as error:
            assert "ended" in str(error)  # noqa: PT017 - both outcomes are right
        assert other.download("kept") == b"kept"


def own_leftovers():
    owner = f"{os.getpid()}_"
    return [name for name in labels() + control_groups() if name.startswith(owner)]


@pytest.mark.parametrize("kind", ["docker", "bubblewrap"])
def test_nothing_is_left_when_a_session_is_closed_or_forgotten(kind):
    with auto_sandbox(kind, prestart=0) as sandbox:
        before = len(own_leftovers())
        closed = sandbox.open_session(limits=LIMITS)
        closed.upload("file", b"x")
        assert len(own_leftovers()) > before
        closed.close()
        closed.close()
        with pytest.raises(SandboxUnavailableError, match="this session is closed"):
            closed.execute("true")
        assert wait_for(lambda: len(own_leftovers()) <= before)
        forgotten = sandbox.open_session(limits=LIMITS)
        forgotten.execute("true")
        del forgotten
        assert wait_for(lambda: len(own_leftovers()) <= before)
        left_open = sandbox.open_session(limits=LIMITS)
    assert wait_for(lambda: len(own_leftovers()) <= before)
    with pytest.raises(SandboxUnavailableError, match="closed"):
        left_open.execute("true")


LEAVING = """
import sys, time
from nad_sandbox import auto_sandbox
session = auto_sandbox(sys.argv[1], prestart=0).open_session(background=True)
session.execute(f"python3 -c 'import time; time.sleep(90)' {sys.argv[2]} >log 2>&1 &")
print("ready", flush=True)
time.sleep(90)
"""


@pytest.mark.parametrize("kind", ["docker", "bubblewrap"])
def test_a_session_ends_with_the_process_that_opened_it_however_that_ends(kind):
    mark = uuid.uuid4().hex
    with subprocess.Popen([sys.executable, "-c", LEAVING, kind, mark], stdout=subprocess.PIPE, text=True) as opener:
        try:
            assert opener.stdout.readline() == "ready\n"
            assert wait_for(lambda: processes(mark))
        finally:
            opener.kill()
    assert wait_for(lambda: not processes(mark))
    reap_leftovers()
    owner = f"{opener.pid}_"
    assert wait_for(lambda: not [name for name in labels() + control_groups() if name.startswith(owner)])


@pytest.mark.parametrize("kind", ["docker", "bubblewrap"])
def test_closing_ends_the_command_that_runs(kind):
    with auto_sandbox(kind, prestart=0) as sandbox:
        session = sandbox.open_session(limits=LIMITS)
        raised = []

        def run():
            try:
                session.execute("sleep 60")
            except SandboxUnavailableError as error:
                raised.append(str(error))

        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(0.3)
        started = time.monotonic()
        session.close()
        thread.join(10)
        assert time.monotonic() - started < 8
        assert raised == ["this session is closed; open a new one"]


async def test_async_methods_do_the_same_and_a_cancelled_task_kills_its_command(sandbox):
    async with await sandbox.aopen_session(limits=LIMITS) as session:
        await session.aupload("a", b"1")
        results = await asyncio.gather(*(session.aexecute(f"echo {n}; sleep 0.1") for n in range(4)))
        assert [result.stdout for result in results] == ["0\n", "1\n", "2\n", "3\n"]
        task = asyncio.create_task(session.aexecute("sleep 60"))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await session.adownload("a") == b"1"
        assert (await session.aexecute("grep -l sleep /proc/[0-9]*/comm")).stdout == ""


def test_a_session_survives_the_thread_that_opened_it(sandbox):
    opened = []
    thread = threading.Thread(target=lambda: opened.append(sandbox.open_session(limits=LIMITS)))
    thread.start()
    thread.join()
    with opened[0] as session:
        assert session.execute("echo here").stdout == "here\n"


def test_a_forked_process_does_not_use_the_session_of_its_parent(sandbox):
    with sandbox.open_session(limits=LIMITS) as session:
        child = os.fork()
        if not child:
            try:
                session.execute("true")
            except SandboxUnavailableError:
                session.close()
                os._exit(3)
            os._exit(4)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        assert session.execute("echo here").stdout == "here\n"


def test_the_automatic_sandbox_has_sessions_and_the_one_without_isolation_has_none():
    with AutoSandbox(prestart=0) as sandbox, sandbox.open_session(limits=LIMITS) as session:
        assert session.execute("echo 1").stdout == "1\n"
    with UnsafeLocalSandbox() as unsafe, pytest.raises(SandboxUnavailableError, match="has no sessions"):
        unsafe.open_session()
