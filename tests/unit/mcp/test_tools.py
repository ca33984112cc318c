"""The tools as mcp's own client sees them, in this process: by the newest protocol and by that of older clients."""

import asyncio
import json
from concurrent.futures import Future

import pytest
from mcp import Client
from nad_mcp import create_server
from nad_sandbox import AutoSandbox, SandboxUnavailableError, UnsafeLocalSandbox

from nad_agents import ModelLoadError, PromptError, SamplingConfig
from nad_agents.testing import ScriptedAnswer, ScriptedDecoder
from tests.unit.event_loops import check_that_cancelling_ends
from tests.unit.langchain.chats import tiny_decoder

WRONG = "```python\ndef add(a, b):\n    return a - b\n```"
RIGHT = "```python\ndef add(a, b):\n    return a + b\n```"


@pytest.fixture(scope="module")
def sandbox():
    with UnsafeLocalSandbox() as found:
        yield found


def client(decoder, sandbox=None, **options):
    return Client(create_server(decoder, sandbox=sandbox), **options)


def error_of(result):
    assert result.is_error
    return result.content[0].text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_tools_describe_themselves(mode):
    async with client(ScriptedDecoder("4"), mode=mode) as mcp:
        tools = {tool.name: tool for tool in (await mcp.list_tools()).tools}
    assert set(tools) == {"best_of_n", "check_code", "run_python"}
    for tool in tools.values():
        assert tool.description.endswith(".")
        assert tool.annotations.read_only_hint
        for part in (tool.input_schema, tool.output_schema):
            assert part["type"] == "object"
            assert all(one["description"].endswith((".", ")")) for one in part["properties"].values()), part
    assert tools["best_of_n"].input_schema["required"] == ["prompt"]
    assert "ctx" not in tools["best_of_n"].input_schema["properties"]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_best_answer_comes_with_its_evidence_and_progress(mode):
    told = []

    async def on_progress(progress, total, message):
        told.append((progress, total, message))

    decoder = ScriptedDecoder(ScriptedAnswer(["4", "five", "four"], ranking=[1, 0, 2]))
    async with client(decoder, mode=mode) as mcp:
        result = await mcp.call_tool("best_of_n", {"prompt": "What is 2 + 2?"}, progress_callback=on_progress)
    found = result.structured_content
    assert not result.is_error
    assert json.loads(result.content[0].text) == found
    assert (found["text"], found["verified"], found["feedback"]) == ("five", None, "")
    assert (found["model"], found["evidence"]["ranking"]) == ("scripted", [1, 0, 2])
    assert "candidates" not in found["evidence"]
    ((generated, most, message),) = told
    assert 0 < generated <= most == 3 * decoder.sampling.max_new_tokens
    assert message == "0 of 3 candidates are being written"


async def test_what_a_call_says_is_what_the_decoder_gets_and_the_rest_is_the_servers():
    decoder = ScriptedDecoder("4", sampling=SamplingConfig(n=3, max_new_tokens=99, top_k=7))
    asked = {"n": 2, "temperature": 0.3, "seed": 5, "max_new_tokens": 12, "selector": "medoid"}
    async with client(decoder) as mcp:
        await mcp.call_tool("best_of_n", {"prompt": "Hello"})
        await mcp.call_tool("best_of_n", {"prompt": "Hello", **asked})
        whole = await mcp.call_tool("best_of_n", {"prompt": "Hello", "temperature": 0, "include_candidates": True})
    first, second, third = decoder.requests
    assert first.sampling == decoder.sampling
    assert first.config == decoder.config
    assert second.config.selector == asked.pop("selector")
    assert second.sampling == decoder.sampling.model_copy(update=asked)
    assert (third.sampling.n, third.config.selector) == (1, "first")
    assert [one["text"] for one in whole.structured_content["evidence"]["candidates"]] == ["4"]


async def test_code_is_checked_down_the_ranking(sandbox):
    decoder = ScriptedDecoder(ScriptedAnswer([WRONG, RIGHT]), ScriptedAnswer([WRONG, WRONG]))
    async with client(decoder, sandbox) as mcp:
        call = {"prompt": "Write add(a, b).", "tests": "assert add(1, 2) == 3"}
        passed = (await mcp.call_tool("best_of_n", call)).structured_content
        failed = (await mcp.call_tool("best_of_n", call)).structured_content
    assert (passed["text"], passed["verified"], passed["feedback"]) == (RIGHT, True, "")
    assert passed["evidence"]["verification"]["checked"] == 2
    assert (failed["verified"], "add(1, 2) == 3" in failed["feedback"]) == (False, True)
    assert all("runner" in request.config.selector_options for request in decoder.requests)


async def test_a_program_is_checked_against_the_task_and_the_tests(sandbox):
    async with client(ScriptedDecoder(""), sandbox) as mcp:
        right = await mcp.call_tool("check_code", {"code": RIGHT, "tests": "assert add(1, 2) == 3"})
        wrong = await mcp.call_tool("check_code", {"code": WRONG, "task": ">>> add(1, 2)\n3"})
        broken = await mcp.call_tool("check_code", {"code": RIGHT, "tests": "assert add(1, 2"})
        named = {"code": RIGHT, "tests": "def check(f): assert f(1, 2) == 3", "entry_point": "add"}
        assert (await mcp.call_tool("check_code", named)).structured_content["passed"]
    assert right.structured_content["passed"]
    assert right.structured_content["trust"] == "separate"
    assert not wrong.is_error
    assert "Expected: 3\nGot: -1" in wrong.structured_content["feedback"]
    assert "the tests do not compile" in error_of(broken)


async def test_a_program_is_run_with_its_input_and_files(sandbox):
    async with client(ScriptedDecoder(""), sandbox) as mcp:
        code = "print(input(), open('data.txt').read())"
        run = await mcp.call_tool("run_python", {"code": code, "stdin": "a\n", "files": {"data.txt": "b"}})
        assert run.structured_content.items() >= {"ok": True, "returncode": 0, "stdout": "a b\n"}.items()
        failed = (await mcp.call_tool("run_python", {"code": "raise SystemExit(3)"})).structured_content
        assert (failed["ok"], failed["returncode"]) == (False, 3)
        endless = {"code": "while True: pass", "timeout": 0.2}
        assert (await mcp.call_tool("run_python", endless)).structured_content["timed_out"]
        assert "timeout" in error_of(await mcp.call_tool("run_python", {**endless, "timeout": 1e9}))


async def test_errors_say_what_to_do_and_crashes_tell_nothing():
    decoder = ScriptedDecoder(PromptError("the prompt is too long"), ZeroDivisionError("a secret"))
    async with client(decoder) as mcp:
        assert "the prompt is too long" in error_of(await mcp.call_tool("best_of_n", {"prompt": "Hello"}))
        assert error_of(await mcp.call_tool("best_of_n", {"prompt": "Hello"})) == "Error executing tool best_of_n"
        assert "best" in error_of(await mcp.call_tool("best_of_n", {"prompt": "Hello", "selector": "best"}))
        assert "prompt" in error_of(await mcp.call_tool("best_of_n", {"prompt": ""}))
        assert "n\n" in error_of(await mcp.call_tool("best_of_n", {"prompt": "Hello", "n": 0}))


async def test_without_a_sandbox_the_error_says_how_to_get_one(monkeypatch):
    def none(kind, **options):
        raise SandboxUnavailableError(f"no {kind}; install bubblewrap")

    monkeypatch.setattr("nad_sandbox.backends.auto.auto_sandbox", none)
    with AutoSandbox("bubblewrap") as sandbox:
        async with client(ScriptedDecoder(RIGHT), sandbox) as mcp:
            for name, call in (
                ("run_python", {"code": "1"}),
                ("check_code", {"code": RIGHT}),
                ("best_of_n", {"prompt": "Write add.", "verify": True}),
            ):
                assert "no bubblewrap; install bubblewrap" in error_of(await mcp.call_tool(name, call))
            assert not (await mcp.call_tool("best_of_n", {"prompt": "Write add."})).is_error


async def test_a_call_waits_for_the_model_and_learns_why_there_is_none():
    loading, broken = Future(), Future()
    async with client(loading) as mcp:
        assert len((await mcp.list_tools()).tools) == 3
        given_up = asyncio.create_task(mcp.call_tool("best_of_n", {"prompt": "Hello"}))
        waiting = asyncio.create_task(mcp.call_tool("best_of_n", {"prompt": "Hello"}))
        await asyncio.sleep(0)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        loading.set_result(ScriptedDecoder("4"))
        assert (await waiting).structured_content["text"] == "4"
    broken.set_exception(ModelLoadError("there is no such model"))
    async with client(broken) as mcp:
        assert "there is no such model" in error_of(await mcp.call_tool("best_of_n", {"prompt": "Hello"}))


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_cancelled_call_stops_the_generation(mode):
    decoder = tiny_decoder(sampling=SamplingConfig(n=16, max_new_tokens=450))
    async with client(decoder, mode=mode) as mcp:
        await check_that_cancelling_ends(decoder, mcp.call_tool("best_of_n", {"prompt": "hello"}))
