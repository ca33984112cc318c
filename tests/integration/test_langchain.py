"""The chat model on the real default model, as users run it; and code in agents, in real containers."""

import time

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_nad import CodeRejectedError, CodeRepair, NADChatModel, PythonSandboxTool, SandboxVerifier
from nad_sandbox import CodeVerifier, DockerSandbox, Limits
from pydantic import Field


def test_a_chain_answers_in_words():
    chat = NADChatModel(n=4, max_tokens=40, temperature=0.5, seed=1)
    chain = ChatPromptTemplate.from_messages([("system", "Answer briefly."), ("human", "{question}")]) | chat
    chain |= StrOutputParser()
    assert "Paris" in chain.invoke({"question": "What is the capital of France?"})


def test_instances_share_the_weights_and_construction_costs_nothing():
    first = NADChatModel(n=2, max_tokens=8)
    first.invoke("Hello")
    started = time.perf_counter()
    others = [NADChatModel(n=3, seed=i) for i in range(10)]
    assert time.perf_counter() - started < 1
    assert all(other.get_decoder() is first.get_decoder() for other in others)


def test_early_stopping_streams_from_the_first_chunk_and_saves_tokens():
    chat = NADChatModel(n=4, max_tokens=80, seed=2, pruning="first_chunk", selector="knn")
    chunks = list(chat.stream("Write a short story about a fox who learns to swim."))
    texts = [chunk.text for chunk in chunks if chunk.text]
    assert len(texts) > 10
    full = sum(chunks[1:], chunks[0])
    assert full.response_metadata["nad"]["tokens_saved"] > 50
    assert full.usage_metadata["output_tokens"] < 4 * 80
    assert full.text == chat.invoke("Write a short story about a fox who learns to swim.").text


async def test_concurrent_questions():
    chat = NADChatModel(n=2, max_tokens=24, temperature=0.3, seed=5)
    answers = await chat.abatch([f"What is the capital of {c}?" for c in ("France", "Germany", "Italy")])
    found = " ".join(answer.text for answer in answers)
    assert sum(city in found for city in ("Paris", "Berlin", "Rome")) >= 2


ADD = "```python\ndef add(a, b):\n    return a + b\n```"
WRONG = "```python\ndef add(a, b):\n    return a - b\n```"
TESTS = "assert add(2, 3) == 5 and add(-1, 1) == 0"


class Scripted(GenericFakeChatModel):
    """Writes what a 135M model cannot be relied on to write; remembers what it was asked."""

    asked: list = Field(default_factory=list)

    def _generate(self, messages, *args, **kwargs):
        self.asked.append(messages)
        return super()._generate(messages, *args, **kwargs)

    def bind_tools(self, tools, **kwargs):
        return self


def scripted(*answers):
    messages = [a if isinstance(a, AIMessage) else AIMessage(a) for a in answers]
    return Scripted(messages=iter(messages), asked=[])


@pytest.fixture(scope="module")
def sandbox():
    with DockerSandbox(limits=Limits(timeout=8.0, memory_mb=256), build=True) as made:
        yield made


class TestInDocker:
    """Code of a message is checked and run in containers of the real engine."""

    def test_a_chain_goes_on_with_checked_code_only(self, sandbox):
        step = SandboxVerifier(sandbox, tests=TESTS)
        chain = scripted(ADD, WRONG) | step | (lambda m: m.response_metadata["sandbox"]["passed"])
        assert chain.invoke("Write add.") is True
        with pytest.raises(CodeRejectedError, match="failed its checks"):
            chain.invoke("Write add.")

    async def test_many_at_once_and_hostile_code(self, sandbox):
        step = SandboxVerifier(sandbox, tests=TESTS, timeout=5, on_failure="annotate")
        endless = "```python\ndef add(a, b):\n    while True:\n        pass\n```"
        leaving = "```python\nimport os\nos._exit(0)\n```"
        online = "```python\nimport socket\nsocket.create_connection(('1.1.1.1', 53), 2)\n" + ADD[10:]
        found = await step.abatch([AIMessage(code) for code in (ADD, WRONG, endless, leaving, online)])
        assert [m.response_metadata["sandbox"]["passed"] for m in found] == [True, False, False, False, False]

    def test_the_models_own_candidates_are_walked_until_one_passes(self, sandbox):
        chat = NADChatModel(n=6, max_tokens=80, temperature=0.7, seed=4, verifier=CodeVerifier(sandbox, tests=TESTS))
        answer = chat.invoke("Write a Python function add(a, b) that returns the sum of a and b. Only code.")
        verification = answer.response_metadata["nad"]["verification"]
        assert verification["checked"] >= 1
        again = SandboxVerifier(sandbox, tests=TESTS, on_failure="annotate").invoke(answer)
        assert again.response_metadata["sandbox"]["passed"] is verification["passed"]

    def test_an_agent_repairs_its_code(self, sandbox):
        model = scripted(WRONG, ADD)
        agent = create_agent(model, middleware=[CodeRepair(CodeVerifier(sandbox, tests=TESTS))])
        last = agent.invoke({"messages": [HumanMessage("Write add.")]})["messages"][-1]
        assert last.content == ADD
        assert last.response_metadata["sandbox"]["passed"] is True
        assert last.response_metadata["sandbox"]["repairs"] == 1
        assert "add(2, 3)" in model.asked[1][-1].content

    async def test_an_agent_runs_python(self, sandbox):
        program = "import os\nprint(sum(range(101)), os.getuid())"
        call = AIMessage("", tool_calls=[{"name": "python", "args": {"code": program}, "id": "c1"}])
        agent = create_agent(scripted(call, "Done."), [PythonSandboxTool(sandbox=sandbox)])
        messages = (await agent.ainvoke({"messages": [HumanMessage("Sum up.")]}))["messages"]
        assert [m.type for m in messages] == ["human", "ai", "tool", "ai"]
        total, user = messages[2].content.split()
        assert total == "5050"
        assert user != "0"

    def test_the_default_model_may_be_made_to_run_python(self, sandbox):
        chat = NADChatModel(n=2, max_tokens=64, temperature=0.5, seed=2)
        tool = PythonSandboxTool(sandbox=sandbox)
        (called,) = chat.bind_tools([tool], tool_choice="python").invoke("Print 6 times 7.").tool_calls
        result = tool.invoke(called)
        assert result.status == "success"
        assert result.content
