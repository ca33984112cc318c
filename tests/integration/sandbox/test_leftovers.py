"""Nothing outlives a run or its process: containers, processes, control groups, temporary files."""

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from nad_sandbox import BubblewrapSandbox, DockerSandbox, Limits, SandboxUnavailableError, reap_leftovers
from nad_sandbox.ownership.temp_folders import owned_folder

from tests.integration.sandbox.leftovers import control_groups, labels, own_labels, processes, wait_for

SCRIPT = """
import signal, sys
# ignored where the tests run in the background of a shell
signal.signal(signal.SIGINT, signal.default_int_handler)
from nad_sandbox import {backend}
sandbox = {backend}()
sandbox.check_available()
sandbox.exec(["python3", "-c", "import os, time\\nos.fork()\\ntime.sleep(90)", sys.argv[1]], timeout=80)
"""


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


@pytest.mark.parametrize("how", ["the next sandbox", "nad doctor --clean"])
def test_what_a_killed_process_leaves_goes_by_itself_or_by_command(running, how):
    process, mark = running
    process.kill()
    process.communicate(timeout=60)
    if how == "the next sandbox":
        for kind in (DockerSandbox, BubblewrapSandbox):
            with kind() as sandbox:
                assert sandbox.run_python("print(1)").stdout == "1\n"
    else:
        command = [sys.executable, "-m", "nad_agents", "doctor", "--clean"]
        assert "leftovers" in subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout
    assert wait_for(lambda: not processes(mark), 2)
    assert not [name for name in labels() + control_groups() if name.startswith(f"{process.pid}_")]


@pytest.mark.parametrize("how", ["another's folder", "reap_leftovers"])
def test_a_folder_of_a_killed_process_is_removed(tmp_path, monkeypatch, how):
    hold = "import time\nfrom nad_sandbox.ownership.temp_folders import owned_folder\nwith owned_folder(): print(flush=True); time.sleep(90)"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", hold], env=environment, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.kill()
    assert len(list(tmp_path.iterdir())) == 1
    if how == "reap_leftovers":
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        assert len(reap_leftovers()) == 1
        with owned_folder() as mine:
            reap_leftovers()
            assert list(tmp_path.iterdir()) == [mine]
    else:
        once = "from nad_sandbox.ownership.temp_folders import owned_folder\nwith owned_folder(): pass"
        subprocess.run([sys.executable, "-c", once], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []


def test_bubblewrap_needs_no_reaper_to_end_its_processes():
    mark = uuid.uuid4().hex
    with subprocess.Popen([sys.executable, "-c", SCRIPT.format(backend="BubblewrapSandbox"), mark]) as process:
        try:
            assert wait_for(lambda: len(processes(mark)) >= 2)
        finally:
            process.kill()
    assert wait_for(lambda: not processes(mark), 5)
    reap_leftovers()


@pytest.mark.parametrize("kind", [DockerSandbox, BubblewrapSandbox])
def test_every_process_of_a_program_ends_with_it_however_far_it_has_gone(kind):
    mark = uuid.uuid4().hex
    leave = """
import os, subprocess, sys
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp("python3", ["python3", "-c", "import time\\ntime.sleep(90)", sys.argv[1]])
        os._exit(0)
    os.wait()
"""
    with kind(limits=Limits(timeout=20)) as own:
        assert own.exec(["python3", "-c", leave, mark]).returncode == 0
        assert wait_for(lambda: not processes(mark), 2)


async def test_a_cancelled_task_leaves_nothing(sandbox):
    mark = uuid.uuid4().hex
    command = ["python3", "-c", "import os, time\nos.fork()\ntime.sleep(90)", mark]
    task = asyncio.create_task(sandbox.aexec(command, timeout=80))
    assert await asyncio.to_thread(wait_for, lambda: len(processes(mark)) >= 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert wait_for(lambda: not processes(mark), 2)


@pytest.mark.parametrize("kind", [DockerSandbox, BubblewrapSandbox])
def test_closing_ends_what_still_runs(kind):
    mark = uuid.uuid4().hex
    with ThreadPoolExecutor(1) as threads, kind() as own:
        call = threads.submit(own.exec, ["python3", "-c", "import time\ntime.sleep(90)", mark], timeout=80)
        assert wait_for(lambda: processes(mark))
        own.close()
        with pytest.raises(SandboxUnavailableError, match="is closed"):
            call.result(10)
    assert wait_for(lambda: not processes(mark), 2)
    assert not own_labels()


def test_no_container_is_left_after_close(docker_sandbox):
    docker_sandbox.wait_ready()
    before = len(own_labels())
    with DockerSandbox(limits=Limits(timeout=2), prestart=2) as own:
        own.wait_ready()
        assert len(own_labels()) == before + 2
        own.run_python("raise ValueError")
        own.run_python("while True: pass", timeout=0.3)
    assert len(own_labels()) == before


def own_control_groups():
    return {name for name in control_groups() if name.startswith(f"{os.getpid()}_")}


def own_processes():
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {pid for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == "bwrap"}


def test_no_control_group_descriptor_or_process_is_left_after_many_runs():
    of_others = own_control_groups(), own_processes()
    with BubblewrapSandbox(limits=Limits(timeout=2)) as own:
        own.run_python("pass")
        own.wait_ready()
        before = len(list(Path("/proc/self/fd").iterdir()))
        for code in ("pass", "raise ValueError", "import os; os.fork()", "import os; os.kill(-1, 9)"):
            own.run_python(code)
        own.run_python("while True: pass", timeout=0.3)
        own.wait_ready()
        assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert (own_control_groups(), own_processes()) == of_others
