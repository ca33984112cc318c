"""The sandbox environment of Inspect: Inspect's own check of environments on every backend, and whole evaluations.

They have a process of their own, since Inspect changes asyncio for good: asyncio.run then leaves its event loops open.
"""

import asyncio

import pytest
from inspect_ai import Task, eval_async
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import bash, python
from inspect_ai.util import SandboxEnvironmentSpec, SandboxUnavailableError
from inspect_ai.util._sandbox.registry import registry_find_sandboxenv
from inspect_ai.util._sandbox.self_check import *  # noqa: F403 - the checks are tests
from nad_inspect_ai import NADSandboxConfig, NADSandboxEnvironment
from pydantic import ValidationError

from tests.integration.sandbox.leftovers import own_labels, wait_for

# Inspect leaves streams of its own for the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning")

KNOWN = {"test_exec_as_user": "commands have one unprivileged user, and the check makes another as root"}


@pytest.fixture(scope="module", params=["docker", "bubblewrap"])
def environment(request):
    config = NADSandboxConfig(backend=request.param)
    made = asyncio.run(NADSandboxEnvironment.sample_init("check", config, {}))
    yield made["default"]
    asyncio.run(NADSandboxEnvironment.sample_cleanup("check", config, made, interrupted=False))


@pytest.fixture
def sandbox_env(environment, request):
    if reason := KNOWN.get(request.node.originalname):
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    return environment


def task(sandbox, tool, **sample):
    return Task(
        dataset=[Sample(input="What is 6 times 7?", target="42", **sample)],
        solver=[use_tools(tool), generate()],
        scorer=includes(),
        sandbox=sandbox,
    )


def model(name, argument, answer="It is 42."):
    calls = [ModelOutput.for_tool_call("mockllm", name, argument), ModelOutput.from_content("mockllm", answer)]
    return get_model("mockllm/model", custom_outputs=calls)


async def evaluated(tmp_path, task, model):
    (log,) = await eval_async(task, model=model, log_dir=str(tmp_path), log_level="error")
    assert log.status == "success", log.error
    assert log.results.scores[0].metrics["accuracy"].value == 1
    return log


@pytest.mark.parametrize("sandbox", [("nad", "docker"), ("nad", "bubblewrap"), "nad"], ids=str)
async def test_an_evaluation_runs_its_tools_in_the_sandbox(tmp_path, sandbox):
    before = set(own_labels())
    log = await evaluated(tmp_path, task(sandbox, python()), model("python", {"code": "print(6 * 7)"}))
    assert log.samples[0].messages[2].text.strip() == "42"
    assert wait_for(lambda: set(own_labels()) <= before)


async def test_the_files_of_a_sample_are_there(tmp_path):
    made = task("nad", bash(), files={"data/numbers.txt": "6 * 7"})
    command = {"command": 'python3 -c "print($(cat data/numbers.txt))"'}
    log = await evaluated(tmp_path, made, model("bash", command))
    assert log.samples[0].messages[2].text.strip() == "42"


async def test_the_config_of_a_task_is_kept_in_its_log_and_read_again(tmp_path):
    config = NADSandboxConfig(backend="bubblewrap", memory_mb=300)
    log = await evaluated(
        tmp_path, task(SandboxEnvironmentSpec("nad", config), python()), model("python", {"code": "print(42)"})
    )
    assert NADSandboxEnvironment.config_deserialize(log.eval.sandbox.config.model_dump()) == config


def test_it_is_found_by_its_name():
    assert registry_find_sandboxenv("nad") is NADSandboxEnvironment


async def test_a_config_that_is_wrong_is_refused():
    with pytest.raises(ValidationError, match="backend"):
        await NADSandboxEnvironment.sample_init("task", "podman", {})
    with pytest.raises(ValidationError, match="memory"):
        NADSandboxEnvironment.config_deserialize({"memory": 1})


async def test_a_closed_sandbox_is_unavailable_by_inspects_own_error():
    made = await NADSandboxEnvironment.sample_init("task", "bubblewrap", {})
    await NADSandboxEnvironment.sample_cleanup("task", None, made, interrupted=True)
    with pytest.raises(SandboxUnavailableError, match="this session is closed"):
        await made["default"].exec(["true"])
