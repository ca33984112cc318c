"""`nad mcp` as a process with the default model and a real sandbox, spoken to by mcp's own client."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import httpx2
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

NAD = str(Path(sys.executable).with_name("nad"))
KEY = "a-key"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
TASK = "Write a Python function add(a, b). >>> add(1, 2)\n3"


def over_stdio(*options, **settings):
    return Client(StdioServerParameters(command=NAD, args=["mcp", *options], env=ENVIRONMENT), **settings)


@pytest.fixture(scope="module")
def address():
    """The address of a server over HTTP."""
    with served("--n", "3") as (url, _):
        yield url


@contextmanager
def served(*options):
    command = [NAD, "mcp", "--transport", "http", "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**ENVIRONMENT, "NAD_API_KEY": KEY})
    log = []
    try:
        url = None
        for line in process.stderr:
            log.append(line)
            if found := re.search(r"running on (http://[\d.:]+)", line):
                url = f"{found[1]}/mcp"
                break
        assert url, "".join(log)
        # a pipe that nobody reads stops the process when it is full
        reader = threading.Thread(target=lambda: log.extend(process.stderr))
        reader.start()
        yield url, process
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stderr.close()


@asynccontextmanager
async def over_http(address, **settings):
    headers = {"authorization": f"Bearer {KEY}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=120) as http,
        Client(streamable_http_client(address, http_client=http), **settings) as client,
    ):
        yield client


async def use_all_tools(client):
    told = []

    async def on_progress(progress, total, message):
        told.append((progress, total))

    call = {"prompt": TASK, "seed": 1, "n": 3, "max_new_tokens": 100, "verify": True}
    best = await client.call_tool("best_of_n", call, progress_callback=on_progress)
    assert not best.is_error, best.content
    found = best.structured_content
    assert json.loads(best.content[0].text) == found
    assert found["verified"] is not None
    assert sorted(found["evidence"]["ranking"]) == [0, 1, 2]
    assert "def add" in found["text"]
    assert len(told) > 2
    assert told == sorted(told)
    assert {total for _, total in told} == {300}

    code = "def add(a, b):\n    return a + b"
    checked = await client.call_tool("check_code", {"code": code, "tests": "assert add(1, 2) == 3"})
    assert checked.structured_content["passed"]
    run = await client.call_tool("run_python", {"code": "print(2 ** 100)"})
    assert run.structured_content["stdout"] == "1267650600228229401496703205376\n"
    refused = await client.call_tool("best_of_n", {"prompt": "fox " * 9000})
    assert refused.is_error
    assert "8192" in refused.content[0].text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_all_tools_over_stdio(mode):
    async with over_stdio(mode=mode) as client:
        # the model is still being loaded
        assert len((await client.list_tools()).tools) == 3
        await use_all_tools(client)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_all_tools_over_http(address, mode):
    async with over_http(address, mode=mode) as client:
        await use_all_tools(client)


async def test_a_cancelled_call_leaves_the_batch_to_others(address):
    async with over_http(address) as client:
        long = {"prompt": "Write a long story.", "n": 16, "max_new_tokens": 4000}
        begun = asyncio.Event()

        async def on_progress(*_):
            begun.set()

        call = asyncio.create_task(client.call_tool("best_of_n", long, progress_callback=on_progress))
        await begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(60):  # the story alone would take minutes
            short = await client.call_tool("best_of_n", {"prompt": "Name a fruit.", "n": 2, "max_new_tokens": 8})
        assert not short.is_error


def test_nothing_but_the_protocol_is_on_standard_output():
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }
    call = {
        "jsonrpc": "2.0",
        "id": 2,
        "method": "tools/call",
        "params": {"name": "best_of_n", "arguments": {"prompt": "Name a fruit.", "max_new_tokens": 8}},
    }
    lines = [hello, {"jsonrpc": "2.0", "method": "notifications/initialized"}, call]
    process = subprocess.Popen(
        [NAD, "mcp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    try:
        process.stdin.write("".join(json.dumps(line) + "\n" for line in lines))
        process.stdin.flush()
        answers = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.stdin.close()
        rest = process.stdout.read()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
    assert [answer["id"] for answer in answers] == [1, 2]
    assert answers[1]["result"]["structuredContent"]["text"]
    assert rest == ""


async def test_a_key_is_needed(address):
    assert httpx.post(address, json={}).status_code == 401
    with pytest.raises((MCPError, ExceptionGroup)):
        async with Client(address):
            pass
