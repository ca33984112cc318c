"""The sandbox as a step of a chain, with programs really run."""

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_nad import CodeRejectedError, SandboxVerifier
from nad_sandbox import UnsafeLocalSandbox

from nad_agents import ConfigurationError

GOOD = "Here:\n```python\ndef double(x):\n    return 2 * x\n```"
BAD = "```python\ndef double(x):\n    return x * x\n```"
TESTS = "assert double(3) == 6"


@pytest.fixture(scope="module")
def step():
    with UnsafeLocalSandbox() as sandbox:
        yield lambda **options: SandboxVerifier(sandbox, **{"tests": TESTS, **options})


def test_checked_code_goes_on(step):
    passed = step().invoke(AIMessage(GOOD, response_metadata={"model_name": "m"}))
    assert passed.content == GOOD
    assert passed.response_metadata["model_name"] == "m"
    assert passed.response_metadata["sandbox"]["passed"] is True
    assert step().invoke(GOOD) == GOOD
    chain = RunnableLambda(lambda _: AIMessage(GOOD)) | step() | (lambda m: m.response_metadata["sandbox"]["passed"])
    assert chain.invoke({}) is True


def test_wrong_code_stops_the_chain_with_the_report(step):
    with pytest.raises(CodeRejectedError) as caught:
        step().invoke(AIMessage(BAD))
    assert caught.value.report["passed"] is False
    assert "double(3)" in caught.value.feedback
    assert "\n" not in str(caught.value)
    assert step().with_fallbacks([RunnableLambda(lambda _: "other")]).invoke(BAD) == "other"


def test_wrong_code_may_go_on_with_its_report(step):
    message = step(on_failure="annotate").invoke(AIMessage(BAD))
    assert message.response_metadata["sandbox"]["passed"] is False


async def test_without_blocking(step):
    assert await step().ainvoke(GOOD) == GOOD
    with pytest.raises(CodeRejectedError):
        await step().ainvoke(BAD)


def test_examples_of_the_prompt(step):
    prompt = 'def double(x):\n    """Twice.\n\n    >>> double(4)\n    8\n    """\n'
    assert step(tests=None, prompt=prompt).invoke(GOOD) == GOOD
    with pytest.raises(CodeRejectedError):
        step(tests=None, prompt=prompt).invoke(BAD)


def test_refused():
    with pytest.raises(ConfigurationError, match="on_failure='skip'"):
        SandboxVerifier(on_failure="skip")
    with pytest.raises(ConfigurationError, match="do not compile"):
        SandboxVerifier(tests="assert (")
    with pytest.raises(ConfigurationError, match="unknown check"):
        SandboxVerifier(checks=["style"])
