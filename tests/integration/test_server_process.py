"""`nad serve` as a process: clients that leave, a full queue, shutting down, its names."""

import contextlib
import threading
import time
from pathlib import Path

import httpx
import openai
import pytest

from tests.integration.servers import CHAT, LONG, MODEL, Server, wait_until

PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def server():
    with Server("--max-waiting", "2", "--max-rows", "6") as found:
        yield found


def test_a_client_that_leaves_frees_its_rows_within_a_chunk(server):
    before = server.metric("nad_disconnects_total")
    with server.http.stream("POST", PATH, json={**LONG, "stream": True}) as stream:
        lines = stream.iter_lines()  # dropping it would close the connection
        assert next(lines).startswith("data: ")
        wait_until(lambda: server.metric("nad_batch_rows") == 3)
    assert steps_after_leaving(server, before + 1) <= 1
    with pytest.raises(httpx.ReadTimeout):
        server.http.post(PATH, json=LONG, timeout=2.0)
    assert steps_after_leaving(server, before + 2) <= 1
    assert server.health() == {"status": "ok", "running": 0, "waiting": 0, "prompt_tokens_left": 0}


def steps_after_leaving(server, disconnects):
    """Steps that the batch goes on for when the server has seen so many clients leave."""
    wait_until(lambda: server.metric("nad_disconnects_total") == disconnects)
    seen = server.metric("nad_batch_steps")
    wait_until(lambda: server.metric("nad_batch_rows") == 0)
    return server.metric("nad_batch_steps") - seen


def test_a_full_queue_says_when_to_come_back(server):
    streams = [server.http.stream("POST", PATH, json={**LONG, "stream": True}) for _ in range(4)]
    try:
        for stream in streams:
            assert stream.__enter__().status_code == 200
        wait_until(lambda: server.health().items() >= {"status": "ok", "running": 2, "waiting": 2}.items())
        refused = server.http.post(PATH, json=CHAT)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.json()["error"]["type"] == "rate_limit_error"
    finally:
        for stream in streams:
            stream.__exit__(None, None, None)
    wait_until(lambda: server.health()["running"] == 0, 20)


def test_shutdown_lets_running_requests_finish(start_server):
    server = start_server()
    answers = []

    def ask():
        answers.append(server.http.post(PATH, json={**CHAT, "max_tokens": 60}))

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: server.health()["running"] == 1)
    assert server.stop() == 0
    asking.join(10)
    assert answers[0].json()["choices"][0]["message"]["content"]


def test_what_still_runs_after_the_time_to_shut_down_is_told_and_the_process_ends(start_server):
    server = start_server("--shutdown-seconds", "1", "--max-rows", "6")
    answers = {}

    def ask(name, stream):
        answers[name] = server.http.post(PATH, json={**LONG, "stream": stream})

    asked = {"whole": False, "stream": True, "waiting": False, "waiting stream": True}
    asking = [threading.Thread(target=ask, args=one) for one in asked.items()]
    for place, thread in enumerate(asking, start=1):
        thread.start()
        wait_until(lambda place=place: sum(server.health()[k] for k in ("running", "waiting")) == place)
    assert server.health().items() >= {"status": "ok", "running": 2, "waiting": 2}.items()
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


ENDLESS = "```python\nwhile True:\n    pass\n```\n\n"


def test_a_check_that_runs_is_ended_with_the_server(start_server):
    server = start_server("--verify", "bubblewrap", "--shutdown-seconds", "1")
    # greedy, the model repeats what it has seen eight times
    asked = {"model": MODEL, "prompt": ENDLESS * 8, "max_tokens": 24, "temperature": 0}
    answers = {}

    def ask(stream):
        answers[stream] = server.http.post("/v1/completions", json={**asked, "stream": stream})

    asking = [threading.Thread(target=ask, args=(stream,)) for stream in (False, True)]
    for thread in asking:
        thread.start()
    wait_until(lambda: server.health()["running"] == 2 and server.metric("nad_batch_rows") == 0)
    wait_until(lambda: programs_of(server))
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 5  # the check would have gone on for ten seconds
    for thread in asking:
        thread.join(10)
    assert answers[False].status_code == 503
    assert answers[False].json()["error"]["code"] == "server_shutting_down"
    assert answers[True].status_code == 200
    assert '"code":"server_shutting_down"' in answers[True].text
    assert answers[True].text.endswith("data: [DONE]\n\n")
    log = "".join(server.log)
    assert "Traceback" not in log
    assert "Cancel" not in log


def programs_of(server):
    """What the sandbox runs for a server."""
    names = []
    for task in Path(f"/proc/{server.process.pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has just ended
            names += [Path(f"/proc/{pid}/comm").read_text() for pid in (task / "children").read_text().split()]
    return [name for name in names if name == "bwrap\n"]


def test_without_a_key_only_this_machines_own_names_are_answered(start_server):
    server = start_server(key=None)
    try:
        assert server.http.get("/health").status_code == 200
        for path in ("/health", "/v1/models", PATH):
            refused = server.http.get(path, headers={"host": "rebound.example:8000"})
            assert refused.status_code == 403
            assert refused.json()["error"]["code"] == "host_not_allowed"
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
            assert client.models.list().data
    finally:
        assert server.stop() == 0
