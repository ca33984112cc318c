"""`nad serve` as a process with the default model, and OpenAI's own client; over raw HTTP what the client hides."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import openai
import pytest
from langchain_openai import ChatOpenAI
from nad_sandbox import SandboxUnavailableError, auto_sandbox
from pydantic import BaseModel, Field

from tests.tiny_models import byte_tokenizer, make_model

KEY = "a-key"
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Name a fruit."}], "max_tokens": 24, "seed": 1}
CONVERT = {
    "type": "function",
    "function": {
        "name": "convert",
        "description": "Convert a temperature.",
        "parameters": {
            "type": "object",
            "properties": {"degrees": {"type": "integer"}, "unit": {"enum": ["C", "F"]}},
            "required": ["degrees", "unit"],
        },
    },
}


class Server:
    def __init__(self, *options, key=KEY):
        command = [Path(sys.executable).with_name("nad"), "serve", "--n", "3", "--port", "0", *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NAD_API_KEY": key or "", "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.log = []
        self.url = None
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(r"running on (http://[\d.:]+)", line):
                self.url = found[1]
                break
        assert self.url, "".join(self.log)
        # a pipe that nobody reads stops the process when it is full
        self.reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr))
        self.reader.start()
        self.http = httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {KEY}"}, timeout=120)

    def metric(self, name):
        found = re.search(rf"^{re.escape(name)} ([\d.]+)$", self.http.get("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def health(self):
        return self.http.get("/health").json()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        self.reader.join()
        self.process.stderr.close()
        self.http.close()
        return status


@pytest.fixture(scope="module")
def server():
    found = Server("--max-waiting", "2", "--max-rows", "6")
    yield found
    found.stop()


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as found:
        yield found


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_models(client):
    names = [model.id for model in client.models.list()]
    assert names == [MODEL, "SmolLM2-135M-Instruct"]
    assert client.models.retrieve(MODEL).max_model_len == 8192
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_an_answer_and_its_stream_are_the_same(client):
    whole = client.chat.completions.create(**CHAT)
    assert whole.choices[0].message.content
    assert whole.nad["n"] == 3
    stream = client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    texts = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(texts) == whole.choices[0].message.content
    assert len([text for text in texts if text]) > 3
    assert chunks[-1].usage == whole.usage
    assert chunks[0].choices[0].delta.role == "assistant"


def test_tools_and_shapes(client):
    with client.chat.completions.stream(
        **{**CHAT, "max_tokens": 80}, tools=[CONVERT], tool_choice="required"
    ) as stream:
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls
    arguments = json.loads(call.function.arguments)
    assert arguments["unit"] in {"C", "F"}
    assert final.choices[0].finish_reason == "tool_calls"
    followed = client.chat.completions.create(
        **{
            **CHAT,
            "messages": [
                *CHAT["messages"],
                final.choices[0].message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"}),
                {"role": "tool", "tool_call_id": call.id, "content": "21"},
            ],
        },
        tools=[CONVERT],
    )
    assert followed.choices[0].finish_reason in {"stop", "length", "tool_calls"}


class Person(BaseModel):
    """A person."""

    name: str = Field(max_length=20)
    age: int = Field(le=150)


def test_langchains_openai_model(server):
    chat = ChatOpenAI(base_url=f"{server.url}/v1", api_key=KEY, model=MODEL, max_tokens=60, seed=1, max_retries=0)
    whole = chat.invoke("Name a fruit.")
    streamed = list(chat.stream("Name a fruit."))
    assert "".join(chunk.text for chunk in streamed) == whole.text
    assert whole.usage_metadata["output_tokens"] > 0
    person = chat.with_structured_output(Person).invoke("Ada Lovelace died at 36.")
    assert isinstance(person, Person)
    (call,) = chat.bind_tools([Person], tool_choice="any").invoke("Ada Lovelace died at 36.").tool_calls
    assert Person(**call["args"])


def test_errors_are_the_clients_own_classes(client, server):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**CHAT, logit_bias={"5": 1})
    assert refused.value.param == "logit_bias"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(**{**CHAT, "model": "other"})
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()
    assert server.http.post("/v1/chat/completions", content=b" " * 5 * 2**20).status_code == 413


@pytest.fixture(scope="module")
def fill_in_model(tmp_path_factory):
    """A random model whose tokenizer has the marks of Qwen2.5-Coder."""
    folder = tmp_path_factory.mktemp("models") / "fill-in"
    tokenizer = byte_tokenizer.__wrapped__()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]})
    tokenizer.save_pretrained(folder)
    make_model("qwen2", vocab_size=len(tokenizer)).save_pretrained(folder)
    return folder


def test_filling_in_before_a_suffix(client, fill_in_model):
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model=MODEL, prompt="def f(", suffix="):", max_tokens=8)
    assert refused.value.param == "suffix"
    server = Server("--model", fill_in_model)
    try:
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as other:
            asked = {"model": "fill-in", "prompt": "def f(", "suffix": "):", "max_tokens": 8, "seed": 1}
            whole = other.completions.create(**asked)
            streamed = "".join(chunk.choices[0].text for chunk in other.completions.create(**asked, stream=True))
    finally:
        assert server.stop() == 0
    assert whole.usage.prompt_tokens == 3 + len("def f(") + len("):")
    assert whole.choices[0].text == streamed
    assert whole.nad["n"] == 3


def test_a_client_that_leaves_frees_its_rows_within_a_chunk(server):
    long = {**CHAT, "max_tokens": 2000, "nad": {"n": 3}, "messages": [{"role": "user", "content": "Count to 1000."}]}
    before = server.metric("nad_disconnects_total")
    with server.http.stream("POST", "/v1/chat/completions", json={**long, "stream": True}) as stream:
        lines = stream.iter_lines()  # dropping it would close the connection
        assert next(lines).startswith("data: ")
        wait_until(lambda: server.metric("nad_batch_rows") == 3)
    assert steps_after_leaving(server, before + 1) <= 1
    with pytest.raises(httpx.ReadTimeout):
        server.http.post("/v1/chat/completions", json=long, timeout=2.0)
    assert steps_after_leaving(server, before + 2) <= 1
    assert server.health() == {"status": "ok", "running": 0, "waiting": 0}


def steps_after_leaving(server, disconnects):
    """Steps that the batch goes on for when the server has seen so many clients leave."""
    wait_until(lambda: server.metric("nad_disconnects_total") == disconnects)
    seen = server.metric("nad_batch_steps")
    wait_until(lambda: server.metric("nad_batch_rows") == 0)
    return server.metric("nad_batch_steps") - seen


def test_a_full_queue_says_when_to_come_back(server):
    long = {**CHAT, "max_tokens": 2000, "stream": True, "messages": [{"role": "user", "content": "Count to 1000."}]}
    streams = [server.http.stream("POST", "/v1/chat/completions", json=long) for _ in range(4)]
    try:
        for stream in streams:
            assert stream.__enter__().status_code == 200
        wait_until(lambda: server.health() == {"status": "ok", "running": 2, "waiting": 2})
        refused = server.http.post("/v1/chat/completions", json=CHAT)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.json()["error"]["type"] == "rate_limit_error"
    finally:
        for stream in streams:
            stream.__exit__(None, None, None)
    wait_until(lambda: server.health()["running"] == 0, 20)


def test_shutdown_lets_running_requests_finish():
    server = Server()
    answers = []

    def ask():
        answers.append(server.http.post("/v1/chat/completions", json={**CHAT, "max_tokens": 60}))

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: server.health()["running"] == 1)
    assert server.stop() == 0
    asking.join(10)
    assert answers[0].json()["choices"][0]["message"]["content"]


def test_what_still_runs_after_the_time_to_shut_down_is_told_and_the_process_ends():
    server = Server("--shutdown-seconds", "1", "--max-rows", "6")
    long = {**CHAT, "max_tokens": 4000, "messages": [{"role": "user", "content": "Count to 1000."}]}
    answers = {}

    def ask(name, stream):
        answers[name] = server.http.post("/v1/chat/completions", json={**long, "stream": stream})

    asked = {"whole": False, "stream": True, "waiting": False, "waiting stream": True}
    asking = [threading.Thread(target=ask, args=one) for one in asked.items()]
    for place, thread in enumerate(asking, start=1):
        thread.start()
        wait_until(lambda place=place: sum(server.health()[k] for k in ("running", "waiting")) == place)
    assert server.health() == {"status": "ok", "running": 2, "waiting": 2}
    assert server.stop() == 0
    for thread in asking:
        thread.join(10)
    assert set(answers) == set(asked)
    for name, stream in asked.items():
        answer = answers[name]
        assert answer.status_code == (200 if stream else 503)
        assert '"code":"server_shutting_down"' in answer.text
        assert answer.text.endswith("data: [DONE]\n\n") is stream
    assert answers["waiting"].headers["retry-after"]
    assert "Traceback" not in "".join(server.log)
    assert "Cancel" not in "".join(server.log)


def test_without_a_key_only_this_machines_own_names_are_answered():
    server = Server(key=None)
    try:
        assert server.http.get("/health").status_code == 200
        for path in ("/health", "/v1/models", "/v1/chat/completions"):
            refused = server.http.get(path, headers={"host": "rebound.example:8000"})
            assert refused.status_code == 403
            assert refused.json()["error"]["code"] == "host_not_allowed"
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
            assert client.models.list().data
    finally:
        assert server.stop() == 0


def test_code_is_checked_in_a_sandbox_when_asked_for():
    try:
        auto_sandbox().close()
    except SandboxUnavailableError as error:
        pytest.skip(str(error))
    server = Server("--verify", "auto", "--selector", "first")
    asked = {
        **CHAT,
        "max_tokens": 120,
        "messages": [{"role": "user", "content": "Write a Python function add(a, b). >>> add(1, 2)\n3"}],
        "nad": {"include_candidates": True},
    }
    try:
        checked = server.http.post("/v1/chat/completions", json=asked).json()["nad"]
        behaviour = {**asked, "nad": {"selector": "behaviour", "verify": False}}
        compared = server.http.post("/v1/chat/completions", json=behaviour).json()["nad"]
    finally:
        assert server.stop() == 0
    verdicts = [candidate["verdict"] for candidate in checked["candidates"]]
    assert any(verdict and verdict.get("checks") for verdict in verdicts), verdicts
    assert isinstance(checked["verification"]["passed"], bool)
    assert compared["selector"] == "behaviour"
    assert "verification" not in compared
