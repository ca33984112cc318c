"""A deep agent writes, runs and mends code in a real sandbox; a script stands for the model."""

import re
import runpy
from pathlib import Path

import pytest
from deepagents import create_deep_agent
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_nad import NADSandbox
from nad_sandbox import SandboxUnavailableError, auto_sandbox

EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "deep_agent.py"))


class Scripted(FakeMessagesListChatModel):
    """Says one message after the other, whatever tools it has."""

    def bind_tools(self, tools, **options):
        return self


def call(name, **arguments):
    return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": f"{name}-{len(str(arguments))}"}])


STEPS = [
    call("write_file", file_path="/tmp/work/mean.py", content="def mean(values):\n    return sum(values) / 2\n"),
    call(
        "write_file",
        file_path="/tmp/work/check.py",
        content="from mean import mean\nassert mean([1, 2, 3]) == 2, mean([1, 2, 3])\n",
    ),
    call("execute", command="python3 check.py"),
    call("read_file", file_path="/tmp/work/mean.py"),
    call("edit_file", file_path="/tmp/work/mean.py", old_string="/ 2", new_string="/ len(values)"),
    call("execute", command="python3 check.py && echo passed"),
    call("grep", pattern="len(values)", path="/tmp/work"),
    AIMessage("The mean is right now."),
]


@pytest.mark.parametrize("kind", ["docker", "bubblewrap"])
def test_it_writes_runs_and_mends(kind):
    with auto_sandbox(kind, prestart=0) as sandbox, sandbox.open_session() as session:
        messages = list(EXAMPLE["work"](Scripted(responses=list(STEPS)), session, "Write a mean."))
        results = [message for message in messages if isinstance(message, ToolMessage)]
        assert [result.status for result in results] == ["success"] * 7
        assert "AssertionError: 3.0" in results[2].text
        assert results[2].artifact["exit_code"] == 1
        assert "sum(values) / 2" in results[3].text
        assert "passed" in results[5].text
        assert results[5].artifact["exit_code"] == 0
        assert "/tmp/work/mean.py" in results[6].text
        assert messages[-1].text == "The mean is right now."
        assert session.download("mean.py") == b"def mean(values):\n    return sum(values) / len(values)\n"


async def test_it_does_so_without_blocking_the_event_loop():
    with auto_sandbox(prestart=0) as sandbox:
        async with await sandbox.aopen_session() as session:
            backend = NADSandbox(session)
            agent = create_deep_agent(Scripted(responses=list(STEPS)), backend=backend.agent_backend)
            state = await agent.ainvoke({"messages": [("user", "Write a mean.")]})
            assert state["messages"][-1].text == "The mean is right now."
            assert (await session.aexecute("python3 check.py")).ok


def test_long_results_stay_in_the_sandbox_until_they_are_read():
    with auto_sandbox(prestart=0) as sandbox, sandbox.open_session() as session:
        steps = [call("execute", command="seq 1 60000"), AIMessage("Long.")]
        messages = list(EXAMPLE["work"](Scripted(responses=steps), session, "Count."))
        (result,) = (message for message in messages if isinstance(message, ToolMessage))
        assert len(result.text) < 20_000
        path = re.search(r"/tmp/\.deepagents/large_tool_results/[\w-]+", result.text)[0]
        assert "59999\n60000" in session.download(path).decode()


def test_a_session_that_is_closed_stops_the_agent():
    with auto_sandbox(prestart=0) as sandbox:
        session = sandbox.open_session()
        session.close()
        with pytest.raises(SandboxUnavailableError, match="this session is closed"):
            list(EXAMPLE["work"](Scripted(responses=list(STEPS)), session, "Write a mean."))
