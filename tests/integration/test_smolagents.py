"""The executor of smolagents: a real agent acts in the sandbox, and its variables persist."""

import pytest
from nad_sandbox import Limits, auto_sandbox
from nad_smolagents import NADPythonExecutor
from smolagents import ChatMessage, CodeAgent, MessageRole, Model, Tool
from smolagents.utils import AgentExecutionError

LIMITS = Limits(timeout=60, memory_mb=256, tmpfs_mb=32, pids=64)


class Scripted(Model):
    """Acts step by step as the test says, and keeps what it was told."""

    def __init__(self, *steps):
        super().__init__()
        self.steps = iter(steps)
        self.told = []

    def generate(self, messages, **kwargs):
        self.told.append("\n".join(str(message.content) for message in messages))
        return ChatMessage(role=MessageRole.ASSISTANT, content=f"Thought: go on\n<code>\n{next(self.steps)}\n</code>")


class Shout(Tool):
    name = "shout"
    description = "Make text loud."
    inputs = {"text": {"type": "string", "description": "The text."}}  # noqa: RUF012 - as smolagents has it
    output_type = "string"

    def forward(self, text: str) -> str:
        return text.upper() + "!"


@pytest.fixture(scope="module", params=["docker", "bubblewrap"])
def session(request):
    with (
        auto_sandbox(request.param, prestart=0) as sandbox,
        sandbox.open_session(limits=LIMITS, background=True) as made,
    ):
        yield made


@pytest.fixture(scope="module")
def execute(session):
    return NADPythonExecutor(session, timeout=2)


def test_an_agent_with_tools_works_step_by_step(session):
    model = Scripted(
        "words = [shout(text=w) for w in ('a', 'b')]\nprint(words)",
        "import os\nopen('made.txt', 'w').write(words[1])\nos.getuid()",
        "final_answer({'words': words, 'pair': (1, 2)})",
    )
    agent = CodeAgent(tools=[Shout()], model=model, executor=NADPythonExecutor(session), verbosity_level=0)
    assert agent.run("Shout.") == {"words": ["A!", "B!"], "pair": (1, 2)}
    assert "['A!', 'B!']" in model.told[1]
    assert "Last output from code snippet:\n0" not in model.told[2]
    assert session.download("made.txt") == b"B!"


def test_an_agent_reads_what_went_wrong_and_goes_on(session):
    model = Scripted("total = 1\nprint('so far', total)\ntotal / 0", "final_answer(total + 1)")
    agent = CodeAgent(tools=[], model=model, executor=NADPythonExecutor(session), verbosity_level=0)
    assert agent.run("Divide.") == 2
    assert "ZeroDivisionError: division by zero" in model.told[1]
    assert "so far 1" in model.told[1]


def test_the_values_of_an_agents_run_reach_its_code(session):
    agent = CodeAgent(
        tools=[], model=Scripted("final_answer(numbers[0] + 1)"), executor=NADPythonExecutor(session), verbosity_level=0
    )
    assert agent.run("Add.", additional_args={"numbers": [41]}) == 42


def test_variables_functions_and_imports_persist(execute):
    execute("import math\ndef area(r):\n    return math.pi * r ** 2\nclass Point:\n    x = 3")
    result = execute("print('area', 1)\nround(area(Point.x), 2)")
    assert (result.output, result.logs, result.is_final_answer) == ("28.27", "area 1\n", False)
    assert execute("x = 1").output is None
    assert execute("").output is None


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def broken(:", "SyntaxError"),
        ("print('before')\n{}['key']", r"before\n(.|\n)*KeyError: 'key'"),
        ("kept = 5\nwhile True: pass", "TimeoutError: the code took too long"),
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
    ],
)
def test_code_that_fails_is_an_error_and_keeps_the_variables(execute, code, message):
    execute("mine = 7")
    with pytest.raises(AgentExecutionError, match=message):
        execute(code)
    assert execute("mine").output == "7"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os\nos._exit(0)", "ended the interpreter"),
        ("x = bytearray(10**9)\nwhile True: x += x", "ended the interpreter|MemoryError"),
        ("import time\nwhile True:\n    try: time.sleep(60)\n    except BaseException: pass", "did not stop"),
    ],
)
def test_an_interpreter_that_is_lost_is_replaced(execute, code, message):
    with pytest.raises(AgentExecutionError, match=message):
        execute(code)
    assert execute("1 + 1").output == "2"


def test_long_output_is_cut(execute):
    result = execute("print('a' * 10**6)\n'b' * 10**6")
    assert len(result.logs) < 201_000
    assert result.logs.endswith("[... cut ...]\n")
    assert len(result.output) == 200_000


def test_a_package_that_is_not_there_is_an_error_of_the_code(execute):
    with pytest.raises(AgentExecutionError, match="No module named 'no_such_package'"):
        execute("import no_such_package")


def test_what_cannot_work_is_refused(session):
    with pytest.raises(ValueError, match="timeout is 0"):
        NADPythonExecutor(session, timeout=0)
    with (
        auto_sandbox("bubblewrap", prestart=0) as sandbox,
        sandbox.open_session() as without_background,
        pytest.raises(ValueError, match="background=True"),
    ):
        NADPythonExecutor(without_background)
