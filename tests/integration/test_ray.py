"""A Ray cluster on this machine: `nad serve --ray` with two copies of the default model, and `nad bench --ray`."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import openai
import pytest
import yaml

from nad_agents import NADConfig, NeuronAgreementDecoder, SamplingConfig
from nad_agents.evaluation.datasets import load_problems, shuffled
from nad_agents.evaluation.recording import DecoderRecorder, record_problems
from nad_agents.runs import RecordedRun
from tests.integration.servers import CHAT, KEY, LONG, MODEL, Server, wait_until

PATH = "/v1/chat/completions"
REPLICA = "ServeReplica:nad:NADServer"
HALF = ("--replicas", "2", "--num-cpus", "0.5")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def processes(title):
    """Ids of the processes in which Ray runs a class."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            if path.read_text().startswith(f"ray::{title}"):
                found.add(int(path.parent.name))
    return found


@contextlib.contextmanager
def working():
    """The block ends when a replica has worked for a while since its beginning."""
    before = {replica: seconds_of(replica) for replica in processes(REPLICA)}
    yield before
    wait_until(lambda: any(seconds_of(replica) - before[replica] > 0.3 for replica in before))


def seconds_of(process):
    """CPU seconds that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def monkeypatch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def cluster(monkeypatch):
    """The address of a cluster with two cores, which ends with the module; it takes commands only with a token."""
    port = free_port()
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--head", f"--port={port}"]
    command += ["--num-cpus=2", "--include-dashboard=false", "--object-store-memory=100000000"]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            told = []
            for line in process.stdout:
                told.append(line)
                if "Ray runtime started" in line:
                    break
            assert process.poll() is None, "".join(told)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.communicate(timeout=30)


@pytest.fixture(scope="module")
def server(cluster):
    port = str(free_port())
    with Server("--ray", "--ray-address", cluster, "--port", port, "--n", "2", *HALF) as found:
        yield found


def test_requests_are_spread_over_replicas_that_each_have_a_model(server):
    replicas = processes(REPLICA)
    assert len(replicas) == 2
    before = {replica: seconds_of(replica) for replica in replicas}

    def worked(replica):
        return seconds_of(replica) - before[replica] > 0.2

    # Ray draws the replicas of a few requests, so one may get none of them
    for _ in range(4):
        answers = ask(server, 6, max_tokens=16)
        assert all(isinstance(answer, str) and answer for answer in answers)
        if all(map(worked, replicas)):
            break
    assert all(map(worked, replicas))


def test_a_stream_goes_through_while_it_is_generated(server):
    messages = [{"role": "user", "content": "Tell me a long story about a river."}]
    early = {"pruning": "first_chunk", "chunk_size": 8}
    asked = {**LONG, "messages": messages, "max_tokens": 96, "stream": True, "nad": early}
    came, last = [], ""
    with server.http.stream("POST", PATH, json=asked) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                came.append(time.perf_counter())
            last = line or last
    assert last == "data: [DONE]"
    assert len(came) > 2
    assert came[-1] - came[0] > 0.2


def test_a_client_that_leaves_is_cancelled_in_its_replica(server):
    # greedy, the model repeats what it has seen eight times
    asked = {
        "model": MODEL,
        "prompt": "One more, and again:\n" * 8,
        "max_tokens": 2000,
        "temperature": 0,
        "stream": True,
    }
    with server.http.stream("POST", "/v1/completions", json=asked) as stream, working():
        assert stream.status_code == 200
    wait_until(lambda: left_and_freed(server), 20)


def left_and_freed(server):
    """Whether the replica that is asked, one of the two, has seen a client leave and generates nothing."""
    text = server.http.get("/metrics").text
    return bool(
        re.search(r"^nad_disconnects_total 1.0$", text, re.M) and re.search(r"^nad_batch_rows 0.0$", text, re.M)
    )


def test_what_is_wrong_is_told_as_without_ray(server):
    refused = server.http.post(PATH, json={**CHAT, "model": "other"})
    assert refused.status_code == 404
    assert refused.json()["error"]["code"] == "model_not_found"
    assert server.http.get("/v1/models", headers={"authorization": ""}).status_code == 401


def ask(server, count, **changes):
    """Ask so many times at once as OpenAI's client does; returns texts and exceptions."""
    answers = [None] * count

    def one(index):
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, timeout=100) as client:
            try:
                made = client.chat.completions.create(**{**CHAT, "seed": index, **changes})
                answers[index] = made.choices[0].message.content
            except openai.OpenAIError as error:
                answers[index] = error

    threads = [threading.Thread(target=one, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_a_replica_that_is_killed_loses_no_request(server):
    killed, *others = processes(REPLICA)
    assert len(others) == 1
    answers = []
    asking = threading.Thread(target=lambda: answers.extend(ask(server, 8, max_tokens=60)))
    before = seconds_of(killed)
    asking.start()
    wait_until(lambda: seconds_of(killed) - before > 0.3)
    os.kill(killed, signal.SIGKILL)
    asking.join(100)
    assert [answer for answer in answers if not isinstance(answer, str) or not answer] == []
    assert len(answers) == 8


def test_requests_end_before_the_server_does(server):
    answers = []
    asking = threading.Thread(target=lambda: answers.extend(ask(server, 1, max_tokens=100)))
    with working():
        asking.start()
    assert server.stop() == 0
    asking.join(10)
    assert isinstance(answers[0], str)
    assert not processes(REPLICA)


PROBLEMS = [
    {"task_id": f"sum/{i}", "question": f"What is {i} + {i + 1}?", "answer": f"#### {2 * i + 1}"} for i in range(4)
]


def test_a_run_on_the_cluster_is_the_run_of_one_process_even_if_an_actor_is_killed(cluster, default_model, tmp_path):
    tasks, out = tmp_path / "sums.jsonl", tmp_path / "on-ray"
    tasks.write_text("".join(json.dumps(problem) + "\n" for problem in PROBLEMS))
    settings = ["--n", "2", "--max-new-tokens", "24", "--seed", "3", "--dtype", "float32", "--no-judge", "--limit", "3"]
    command = [sys.executable, "-m", "nad_agents", "bench", tasks, "--out", out, *settings]
    command += ["--ray", "--ray-address", cluster, *HALF]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        told, killed = [], set()
        for line in process.stderr:
            told.append(line)
            if not killed and re.match(r"1/3 ", line):
                # the other one may still be loading the model
                killed = {max(processes("RecordingActor"), key=seconds_of)}
                os.kill(*killed, signal.SIGKILL)
    assert process.returncode == 0, "".join(told)
    assert killed
    # the rest is recorded here, into the same folder
    problems, source = load_problems(str(tasks))
    decoder = NeuronAgreementDecoder(default_model, prefix_cache_mb=0)
    options = {
        "sampling": SamplingConfig(n=2, max_new_tokens=24, seed=3),
        "config": NADConfig(selector="first"),
        "task": source,
        "order_seed": 3,
    }
    problems = shuffled(problems, 3)
    assert record_problems(DecoderRecorder(decoder), problems, out, resume=True, **options) == 1
    assert record_problems(DecoderRecorder(decoder), problems, tmp_path / "here", **options) == 4
    here, on_ray = RecordedRun(tmp_path / "here"), RecordedRun(out)
    on_ray.check()
    assert on_ray.problems == here.problems
    assert not on_ray.manifest.differences(here.manifest)
    for name in here.problems:
        for one, other in zip(here.group(name).rollouts, on_ray.group(name).rollouts, strict=True):
            assert one.text == other.text
            assert np.array_equal(one.token_ids, other.token_ids)
            assert np.array_equal(one.logprobs, other.logprobs)
            assert np.array_equal(one.neurons, other.neurons)


def test_ray_writes_a_configuration_of_the_application(tmp_path):
    path = tmp_path / "config.yaml"
    command = [sys.executable, "-m", "ray.serve.scripts", "build", "nad_server.ray_app:default_app", "-o", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    (application,) = yaml.safe_load(path.read_text(encoding="utf-8"))["applications"]
    assert application["import_path"] == "nad_server.ray_app:default_app"
    (deployment,) = application["deployments"]
    assert (deployment["name"], deployment["num_replicas"]) == ("NADServer", 1)
