"""Repairing code in an agent, and Python as a tool; programs really run."""

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_nad import CodeRepair, PythonSandboxTool
from nad_sandbox import CodeVerifier, UnsafeLocalSandbox
from pydantic import Field

from nad_agents import ConfigurationError

GOOD = "```python\ndef double(x):\n    return 2 * x\n```"
BAD = "```python\ndef double(x):\n    return x * x\n```"


@pytest.fixture(scope="module")
def sandbox():
    with UnsafeLocalSandbox() as made:
        yield made


class Scripted(GenericFakeChatModel):
    """Says what it is told to; remembers what it was asked."""

    asked: list = Field(default_factory=list)

    def _generate(self, messages, *args, **kwargs):
        self.asked.append(messages)
        return super()._generate(messages, *args, **kwargs)


def run(sandbox, answers, **options):
    model = Scripted(messages=iter(AIMessage(a) for a in answers), asked=[])
    verifier = CodeVerifier(sandbox, tests="assert double(3) == 6")
    agent = create_agent(model, middleware=[CodeRepair(verifier, **options)])
    return agent, model


def test_a_failing_report_goes_back_and_stays_out_of_the_history(sandbox):
    agent, model = run(sandbox, [BAD, GOOD])
    messages = agent.invoke({"messages": [HumanMessage("Write double.")]})["messages"]
    assert [m.type for m in messages] == ["human", "ai"]
    assert messages[-1].content == GOOD
    report = messages[-1].response_metadata["sandbox"]
    assert (report["passed"], report["repairs"]) == (True, 1)
    assert "double(3)" in model.asked[1][-1].content
    assert model.asked[1][-2].content == BAD


async def test_without_blocking(sandbox):
    agent, _ = run(sandbox, [BAD, GOOD])
    messages = (await agent.ainvoke({"messages": [HumanMessage("Write double.")]}))["messages"]
    assert messages[-1].content == GOOD


def test_repairs_end(sandbox):
    agent, model = run(sandbox, [BAD] * 5, max_repairs=2)
    last = agent.invoke({"messages": [HumanMessage("Write double.")]})["messages"][-1]
    assert len(model.asked) == 3
    report = last.response_metadata["sandbox"]
    assert (report["passed"], report["repairs"]) == (False, 2)


def test_prose_is_left_alone(sandbox):
    agent, model = run(sandbox, ["I cannot."])
    last = agent.invoke({"messages": [HumanMessage("Write double.")]})["messages"][-1]
    assert "sandbox" not in last.response_metadata
    assert len(model.asked) == 1


def test_an_apology_is_no_repair(sandbox):
    agent, _ = run(sandbox, [BAD, "Sorry."])
    last = agent.invoke({"messages": [HumanMessage("Write double.")]})["messages"][-1]
    assert last.content == "Sorry."
    report = last.response_metadata["sandbox"]
    assert (report["passed"], report["repairs"]) == (False, 1)


def test_refused(sandbox):
    with pytest.raises(ConfigurationError, match="verifier="):
        CodeRepair("docker")
    with pytest.raises(ConfigurationError, match="max_repairs=-1"):
        CodeRepair(CodeVerifier(sandbox), max_repairs=-1)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("print(6 * 7)", "42"),
        ("pass", "The program printed nothing."),
        ("print('a'); raise SystemExit(3)", "a\nThe program ended with status 3."),
    ],
)
async def test_python_as_a_tool(sandbox, code, told):
    tool = PythonSandboxTool(sandbox=sandbox)
    assert tool.invoke({"code": code}) == told
    assert await tool.ainvoke({"code": code}) == told


def test_errors_and_limits_are_told(sandbox):
    assert "ZeroDivisionError" in PythonSandboxTool(sandbox=sandbox).invoke({"code": "1 / 0"})
    slow = PythonSandboxTool(sandbox=sandbox, seconds=0.5)
    assert "time limit" in slow.invoke({"code": "while True: pass"})
