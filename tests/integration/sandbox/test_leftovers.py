"""Nothing outlives a run or its process: containers, processes, control groups, temporary files."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from nad_sandbox import BubblewrapSandbox, DockerSandbox, Limits, reap_leftovers
from nad_sandbox.cgroup import PREFIX, ControlGroups
from nad_sandbox.container import LABEL
from nad_sandbox.docker import connect

SCRIPT = """
import signal, sys
# ignored where the tests run in the background of a shell
signal.signal(signal.SIGINT, signal.default_int_handler)
from nad_sandbox import {backend}
sandbox = {backend}()
sandbox.check_available()
sandbox.exec(["python3", "-c", "import os, time\\nos.fork()\\ntime.sleep(90)", sys.argv[1]], timeout=80)
"""


def labels():
    api = connect()
    try:
        return [c["Labels"][LABEL] for c in api.containers(all=True, filters={"label": LABEL})]
    finally:
        api.close()


def own_labels():
    return [label for label in labels() if label.startswith(f"{os.getpid()}_")]


def control_groups():
    groups = ControlGroups.find()
    parents = groups.parents.values() if groups is not None else ()
    return [folder.name.removeprefix(PREFIX) for parent in parents for folder in parent.glob(f"{PREFIX}*")]


def processes(mark):
    """Living processes with a mark among their arguments, other than the one that started the sandbox."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if (
            mark.encode() in arguments
            and b"time.sleep(90)" in b"".join(arguments)
            and b"nad_sandbox" not in b"".join(arguments)
        ):
            found.append(int(folder.name))
    return found


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return met


@pytest.fixture(params=["DockerSandbox", "BubblewrapSandbox"])
def running(request, tmp_path):
    """A process in the middle of a run, and the mark that the program's processes carry."""
    mark = uuid.uuid4().hex
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(backend=request.param), mark],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert wait_for(lambda: len(processes(mark)) >= 2), process.poll() is not None and process.stderr.read()
            yield process, mark
        finally:
            process.kill()


def test_ctrl_c_in_the_middle_of_a_run_leaves_nothing(running, tmp_path):
    process, mark = running
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert wait_for(lambda: not processes(mark), 2)
    owner = f"{process.pid}_"
    assert not [name for name in labels() + control_groups() if name.startswith(owner)]
    assert list(tmp_path.iterdir()) == []


def test_what_a_process_killed_in_the_middle_of_a_run_leaves_is_reaped(running, tmp_path):
    process, mark = running
    process.kill()
    process.communicate(timeout=60)
    reap_leftovers()
    assert wait_for(lambda: not processes(mark), 2)
    owner = f"{process.pid}_"
    assert not [name for name in labels() + control_groups() if name.startswith(owner)]
    assert list(tmp_path.iterdir()) == []


def test_bubblewrap_needs_no_reaper_to_end_its_processes():
    mark = uuid.uuid4().hex
    with subprocess.Popen([sys.executable, "-c", SCRIPT.format(backend="BubblewrapSandbox"), mark]) as process:
        assert wait_for(lambda: len(processes(mark)) >= 2)
        process.kill()
    assert wait_for(lambda: not processes(mark), 5)
    reap_leftovers()


async def test_a_cancelled_task_leaves_nothing(sandbox):
    mark = uuid.uuid4().hex
    command = ["python3", "-c", "import os, time\nos.fork()\ntime.sleep(90)", mark]
    task = asyncio.create_task(sandbox.aexec(command, timeout=80))
    assert await asyncio.to_thread(wait_for, lambda: len(processes(mark)) >= 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert wait_for(lambda: not processes(mark), 2)


def test_no_container_is_left_after_close(docker_sandbox):
    docker_sandbox.wait_ready()
    before = len(own_labels())
    with DockerSandbox(limits=Limits(timeout=2), prestart=2) as own:
        own.wait_ready()
        assert len(own_labels()) == before + 2
        own.run_python("raise ValueError")
        own.run_python("while True: pass", timeout=0.3)
    assert len(own_labels()) == before


def test_no_control_group_descriptor_or_process_is_left_after_many_runs():
    with BubblewrapSandbox(limits=Limits(timeout=2)) as own:
        own.run_python("pass")
        before = len(list(Path("/proc/self/fd").iterdir()))
        for code in ("pass", "raise ValueError", "import os; os.fork()", "import os; os.kill(-1, 9)"):
            own.run_python(code)
        own.run_python("while True: pass", timeout=0.3)
        assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not [name for name in control_groups() if name.startswith(f"{os.getpid()}_")]
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert not [pid for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == "bwrap"]
