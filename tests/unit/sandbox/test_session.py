"""A session orders its commands, keeps to one thread, and says what became of its sandbox."""

import asyncio
import base64
import gc
import json
import threading
import time

import pytest
from nad_sandbox import ExecResult, Limits, SandboxFailureError, SandboxSession, SandboxUnavailableError

LIMITS = Limits(tmpfs_mb=1, fsize_mb=1)


class Process:
    """A sandbox that records what it is asked for and answers as the test says."""

    def __init__(self):
        self.goes_on = True
        self.programs = []
        self.threads = {threading.get_ident()}
        self.removed = threading.Event()
        self.answer = lambda program, cancelled: ExecResult(0, "", "", 0.0)

    def run(self, program, cancelled):
        self.threads.add(threading.get_ident())
        self.programs.append(program)
        return self.answer(program, cancelled)

    def remove(self):
        self.threads.add(threading.get_ident())
        self.removed.set()


@pytest.fixture
def process():
    return Process()


@pytest.fixture
def session(process):
    with SandboxSession(lambda: process, LIMITS) as made:
        yield made


def wait_until_cancelled(program, cancelled):
    assert cancelled.wait(10)
    return ExecResult(None, "", "", 0.0)


def test_text_is_for_the_shell_and_a_list_is_a_program(process, session):
    session.execute("echo $HOME | cat", cwd="inner", timeout=3, merge_output=True, env={"A": "b"})
    session.execute(["echo", "$HOME"])
    shell, plain = process.programs
    assert shell.argv == ("/bin/sh", "-c", "echo $HOME | cat")
    assert (shell.folder, shell.timeout, shell.merge_output, dict(shell.env)) == ("inner", 3, True, {"A": "b"})
    assert plain.argv == ("echo", "$HOME")
    assert (plain.folder, plain.timeout, plain.merge_output) == (".", LIMITS.timeout, False)


def test_one_thread_starts_the_sandbox_runs_all_commands_and_removes_it():
    made = []

    def make():
        made.append(Process())
        return made[0]

    session = SandboxSession(make, LIMITS)
    for _ in range(3):
        session.execute("true")
    other = threading.Thread(target=session.execute, args=("true",))
    other.start()
    other.join()
    session.close()
    assert made[0].removed.is_set()
    assert len(made[0].threads) == 1
    assert made[0].threads != {threading.get_ident()}


def test_what_the_start_raises_is_raised():
    def make():
        raise SandboxUnavailableError("nothing here")

    with pytest.raises(SandboxUnavailableError, match="nothing here"):
        SandboxSession(make, LIMITS)


def test_a_sandbox_that_ended_is_named_by_every_later_command(process, session):
    def end(program, cancelled):
        process.goes_on = False
        return ExecResult(137, "", "", 0.0, oom_killed=True)

    process.answer = end
    assert session.execute("true").oom_killed
    with pytest.raises(SandboxFailureError, match="has ended, and its files with it; open a new session"):
        session.execute("true")
    assert len(process.programs) == 1


def test_input_that_cannot_fit_is_the_commands_fault(process, session):
    result = session.execute("cat", stdin=b"x" * (2**20 + 1))
    assert result.returncode == 126
    assert "raise Limits.tmpfs_mb" in result.stderr
    assert not process.programs


def test_the_system_of_the_sandbox_raises_its_own_errors(process, session):
    process.answer = lambda *_: ExecResult(1, "", json.dumps([2, "No such file or directory"]), 0.0)
    with pytest.raises(FileNotFoundError) as raised:
        session.download("there")
    assert raised.value.filename == "there"
    process.answer = lambda *_: ExecResult(1, "", json.dumps([28, "No space left on device"]), 0.0)
    with pytest.raises(OSError, match="No space left on device: 'here'"):
        session.upload("here", b"x")
    process.answer = lambda *_: ExecResult(None, "", "", 0.0, timed_out=True)
    with pytest.raises(SandboxFailureError, match="the transfer of 'here' failed: it timed out"):
        session.upload("here", b"x")


def test_content_that_is_mixed_with_other_output_is_not_returned(process, session):
    process.answer = lambda *_: ExecResult(0, base64.b64encode(b"content").decode(), "", 0.0)
    assert session.download("file") == b"content"
    process.answer = lambda *_: ExecResult(0, "noise!" + base64.b64encode(b"content").decode(), "", 0.0)
    with pytest.raises(SandboxFailureError, match="mixed with what a background process printed"):
        session.download("file")


def test_a_closed_session_refuses_and_ends_what_runs(process):
    session = SandboxSession(lambda: process, LIMITS)
    process.answer = wait_until_cancelled
    raised = []

    def run():
        try:
            session.execute("sleep 60")
        except SandboxUnavailableError as error:
            raised.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    while len(session._running) < 3 or not process.programs:
        time.sleep(0)
    session.close()
    for thread in threads:
        thread.join()
    assert raised == ["this session is closed; open a new one"] * 3
    assert len(process.programs) == 1
    with pytest.raises(SandboxUnavailableError, match="closed"):
        session.upload("x", b"")


def test_a_forgotten_session_removes_its_sandbox(process):
    SandboxSession(lambda: process, LIMITS).execute("true")
    gc.collect()
    assert process.removed.wait(10)


async def test_cancelling_a_task_cancels_its_command_alone(process, session):
    process.answer = wait_until_cancelled
    first = asyncio.create_task(session.aexecute("sleep 60"))
    while not process.programs:
        await asyncio.sleep(0)
    second = asyncio.create_task(session.aexecute("true"))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    process.answer = lambda *_: ExecResult(0, "done", "", 0.0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert (await session.aexecute("true")).stdout == "done"


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_paths_that_name_nothing_are_refused_at_once(process, session, path):
    for use in (
        session.download,
        lambda name: session.upload(name, b""),
        lambda name: session.execute("true", cwd=name),
    ):
        with pytest.raises(ValueError, match="names no file"):
            use(path)
    with pytest.raises(TypeError, match="is no string"):
        session.download(b"bytes")
    assert not process.programs
