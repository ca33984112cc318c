"""What differs between backends: how one is chosen, and what bubblewrap does where it has fewer rights."""

import asyncio
import os
import subprocess
import sys
import tempfile
import venv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from nad_sandbox import (
    AutoSandbox,
    BubblewrapSandbox,
    CodeVerifier,
    DockerSandbox,
    Sandbox,
    SandboxUnavailableError,
    auto_sandbox,
)
from nad_sandbox.backends import bubblewrap_args as bubblewrap_layout
from nad_sandbox.isolation.cgroup import ControlGroups

from tests.integration.sandbox.conftest import LIMITS, opened

HOARD = "xs = []\nwhile True: xs.append(b'x' * (1 << 20))"
FORKS = """
import os
count = 0
try:
    while True:
        if os.fork() == 0:
            import time; time.sleep(9)
        count += 1
except BlockingIOError:
    print(count, flush=True)
"""


@pytest.fixture
def without_groups(monkeypatch):
    monkeypatch.setattr(ControlGroups, "find", classmethod(lambda _: None))
    with BubblewrapSandbox(limits=LIMITS, parallel=2) as made:
        yield made


class TestAuto:
    def test_docker_comes_first_and_bubblewrap_where_no_engine_answers(self, docker_sandbox, monkeypatch, tmp_path):
        with auto_sandbox(limits=LIMITS) as chosen:
            assert isinstance(chosen, DockerSandbox)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
        with auto_sandbox(limits=LIMITS) as chosen:
            assert isinstance(chosen, BubblewrapSandbox)
            assert chosen.run_python("print(1)").stdout == "1\n"

    def test_it_may_be_left_to_the_first_program(self, monkeypatch, tmp_path):
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
        with AutoSandbox(limits=LIMITS) as sandbox:
            assert CodeVerifier(sandbox, tests="assert add(1, 2) == 3").verify("def add(a, b): return a + b").passed

    def test_the_command_line_may_name_one(self, tmp_path):
        command = [sys.executable, "-m", "nad_agents", "code", "x", "-n", "1", "-t", "0", "--verify"]
        done = subprocess.run(
            [*command, "--sandbox", "docker"],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
            env={**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/none.sock"},
        )
        assert done.returncode != 0
        assert "DOCKER_HOST" in done.stderr
        assert "bubblewrap" not in done.stderr


class TestScratchSpace:
    """Where a security module keeps the sandbox from mounting its own; unusable options stand in for it."""

    LOOK = "import os\nn = 0\ntry:\n    while True: n += os.write(os.open('f', 1 | 64 | 1024), b'x' * 4096)\nexcept OSError: print(n >> 20)"

    def test_that_of_bubblewrap_is_used_and_sized(self, monkeypatch):
        monkeypatch.setattr(bubblewrap_layout, "scratch_options", lambda *_: "size=none")
        with BubblewrapSandbox(limits=replace(LIMITS, fsize_mb=64, nofile=60000)) as sandbox:
            assert int(sandbox.run_python(self.LOOK).stdout) <= LIMITS.tmpfs_mb
            code = "import os, shutil\nshutil.copy('/bin/true', 'x')\ntry:\n    os.execv('./x', ['x'])\nexcept PermissionError:\n    print('refused')"
            assert sandbox.run_python(code).stdout == "refused\n"

    def test_without_a_size_there_is_no_sandbox(self, monkeypatch, tmp_path):
        monkeypatch.setattr(bubblewrap_layout, "scratch_options", lambda *_: "size=none")
        old = tmp_path / "bwrap"
        old.write_text('#!/bin/sh\nif [ "$1" = --help ]; then exit 0; fi\nexec bwrap "$@"\n')
        old.chmod(0o755)
        with (
            BubblewrapSandbox(limits=LIMITS, bwrap=str(old)) as sandbox,
            pytest.raises(SandboxUnavailableError, match="does not isolate"),
        ):
            sandbox.check_available()


class TestLimitsThatHold:
    # a condition in quotes is evaluated when the test is about to run: it makes control groups to see whether it may
    @pytest.mark.skipif("ControlGroups.find() is None", reason="no control group may be made here")
    def test_a_control_group_bounds_the_program_as_a_whole(self):
        with BubblewrapSandbox(limits=LIMITS) as sandbox:
            assert {sandbox.enforced[name] for name in ("memory_mb", "pids")} == {"program"}
            result = sandbox.run_python(HOARD)
            assert (result.oom_killed, result.timed_out, result.returncode) == (True, False, 137)
            assert int(sandbox.run_python(FORKS).stdout) < LIMITS.pids

    def test_without_one_each_process_is_bounded_and_that_is_said(self, without_groups):
        assert without_groups.enforced["memory_mb"] == "process"
        assert without_groups.enforced["cpus"] == "none"
        assert without_groups.enforced["pids"] == "program"
        result = without_groups.run_python(HOARD)
        assert result.oom_killed
        assert "MemoryError" in result.stderr
        assert int(without_groups.run_python(FORKS).stdout) <= LIMITS.pids

    def test_a_user_without_privileges_is_counted_alone(self):
        with opened("bubblewrap of a user") as sandbox:
            assert sandbox.enforced["pids"] == "program"
            assert int(sandbox.run_python(FORKS).stdout) < LIMITS.pids


def test_programs_side_by_side_do_not_meet(sandbox):
    code = "import os, time\nopen('mine', 'w').write(str({0}))\ntime.sleep(0.1)\nprint(open('mine').read(), len(os.listdir('.')))"
    with ThreadPoolExecutor(6) as threads:
        results = list(threads.map(sandbox.run_python, [code.format(i) for i in range(12)]))
    assert [result.stdout for result in results] == [f"{i} 2\n" for i in range(12)]


async def test_the_asynchronous_methods_do_the_same_and_leave_the_event_loop_free(sandbox):
    options = {"stdin": "in", "files": {"data/x": "of a file"}}
    code = "import sys, time\ntime.sleep(0.3)\nprint(input(), open('data/x').read())\nsys.exit(4)"
    assert isinstance(sandbox, Sandbox)
    turns = 0
    task = asyncio.gather(
        sandbox.arun_python(code, **options),
        sandbox.aexec(
            ["python3", "-c", "import os\nprint(input() + os.environ['NAME'])"], input=b"a", env={"NAME": "b"}
        ),
        sandbox.arun_python("while True: pass", timeout=0.5),
    )
    while not task.done():
        await asyncio.sleep(0.01)
        turns += 1
    failed, command, endless = await task
    assert turns > 10
    assert (failed.returncode, failed.stdout, command.stdout) == (4, "in of a file\n", "ab\n")
    assert (endless.timed_out, endless.returncode) == (True, None)
    assert replace(failed, duration=0) == replace(sandbox.run_python(code, **options), duration=0)


def test_a_command_gets_the_same_interpreter_as_a_program(sandbox):
    look = "import sys; print(sys.version)"
    assert sandbox.exec(["python3", "-c", look]).stdout == sandbox.run_python(look).stdout
    missing = sandbox.exec(["no-such-program"])
    assert (missing.returncode, missing.stdout) == (127, "")


def test_an_environments_python_brings_its_packages_read_only():
    look = "import only_here\nprint(only_here.VALUE)\nopen(only_here.__file__, 'a')"
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        venv.create(folder, symlinks=True, with_pip=False)
        (package,) = Path(folder).glob("lib/python*/site-packages")
        (package / "only_here.py").write_text("VALUE = 42\n")
        Path(folder).chmod(0o755)
        with BubblewrapSandbox(limits=LIMITS, python=f"{folder}/bin/python") as sandbox:
            result = sandbox.run_python(look)
    assert result.stdout == "42\n"
    assert "Read-only file system" in result.stderr or "PermissionError" in result.stderr
    with BubblewrapSandbox(limits=LIMITS) as sandbox:
        assert "ModuleNotFoundError" in sandbox.run_python(look).stderr


def test_no_account_and_no_folder_of_the_host_is_seen():
    look = "import os\nprint(open('/etc/passwd').read().count('\\n'), sorted(os.listdir('/etc')))\nprint(os.listdir('/var') if os.path.exists('/var') else '-')"
    with BubblewrapSandbox(limits=LIMITS) as sandbox:
        first, second = sandbox.run_python(look).stdout.splitlines()
    assert first.startswith("2 ")
    assert set(eval(first[2:])) <= {"passwd", "group", "alternatives", "ld.so.cache"}
    assert second == "-"
