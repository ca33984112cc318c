"""engine="openai" against a real server, our own with a tiny model on a port, through OpenAI's client."""

import json
import threading
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from langchain_core.messages import AIMessage
from langchain_nad import NADChatModel
from nad_server import ServerSettings, create_app
from starlette.testclient import TestClient
from typer.testing import CliRunner

from nad_agents import (
    ConfigurationError,
    Finished,
    GenerationCancelledError,
    GenerationError,
    NADConfig,
    NeuronAgreementDecoder,
    SamplingConfig,
    TextDelta,
)
from nad_agents.cli.commands import app as command
from nad_agents.models import LoadedModel
from nad_agents.testing import ScriptedAnswer, ScriptedDecoder
from tests.tiny_models import byte_tokenizer, tiny_model

SAMPLING = SamplingConfig(n=3, max_new_tokens=24, temperature=1.0, seed=3)
SCHEMA = {"title": "Answer", "type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]}


@pytest.fixture(scope="module")
def served():
    loaded = LoadedModel(tiny_model(num_hidden_layers=1), byte_tokenizer(), "tiny", "folder", Path())
    return NeuronAgreementDecoder(
        loaded, sampling=SamplingConfig(n=1), config=NADConfig(selector="first", record=False)
    )


@contextmanager
def serving(decoder):
    """Serve a decoder on a free port; yield the address."""
    settings = ServerSettings(model_names=("tiny",), min_temperature=0.0, hosts=())
    server = uvicorn.Server(uvicorn.Config(create_app(decoder, settings), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    (port,) = {sock.getsockname()[1] for one in server.servers for sock in one.sockets}
    yield f"http://127.0.0.1:{port}/v1"
    server.should_exit = True
    thread.join(30)


@contextmanager
def front(url, **options):
    """Yield a client of our server in front of the one at an address."""
    config = NADConfig(selector="first", chunk_size=8)
    engine_options = {"base_url": url, **options}
    decoder = NeuronAgreementDecoder(
        "tiny", engine="openai", engine_options=engine_options, sampling=SAMPLING, config=config
    )
    settings = ServerSettings(model_names=("front",), min_temperature=0.0)
    with TestClient(create_app(decoder, settings), base_url="http://localhost") as client:
        yield client
    decoder.close()


@pytest.fixture(scope="module")
def url(served):
    with serving(served) as address:
        yield address


@pytest.fixture
def decoder(url):
    options = {"base_url": url}
    config = NADConfig(selector="mean_logprob", chunk_size=8)
    decoder = NeuronAgreementDecoder("tiny", engine="openai", engine_options=options, sampling=SAMPLING, config=config)
    yield decoder
    decoder.close()


def long(**changes):
    return SAMPLING.model_copy(update={"max_new_tokens": 3000, "temperature": 1.5, **changes})


def test_candidates_are_ranked_by_the_servers_log_probabilities(decoder, served):
    selection = decoder.decode("hello")
    assert len({candidate.text for candidate in selection.candidates}) == 3
    means = [candidate.mean_logprob for candidate in selection.candidates]
    assert selection.winner == max(range(3), key=means.__getitem__)
    assert selection.similarity_matrix is None
    assert selection.usage.prompt_tokens == len(b"[user]hello\n[assistant]")
    # each is what the server gives for the candidate's own seed
    for candidate in selection.candidates:
        assert candidate.tokens <= 24
        assert candidate.mean_logprob < 0


def test_a_seed_repeats_the_candidates(decoder):
    first, second = decoder.decode("hello"), decoder.decode("hello")
    assert [c.text for c in first.candidates] == [c.text for c in second.candidates]


def test_text_is_continued_by_the_servers_completions(decoder):
    selection = decoder.decode("hello", raw=True)
    assert selection.usage.prompt_tokens == len(b"hello")
    assert all(candidate.mean_logprob < 0 for candidate in selection.candidates)


@pytest.mark.parametrize("selector", ["majority", "shortest", "random", "first"])
def test_selectors_that_need_no_neurons_work(decoder, selector):
    assert sorted(decoder.decode("hello", config=NADConfig(selector=selector)).ranking) == [0, 1, 2]


@pytest.mark.parametrize(
    ("selector", "reason"),
    [
        ("knn", "compares activated neurons, which no server shows"),
        ("nex", "compares activated neurons, which no server shows"),
        ("entropy", "reads the probability of every token"),
        ("self_certainty", "reads the probability of every token"),
        ("deepconf", "reads the likeliest tokens, for which top_logprobs=20"),
    ],
)
def test_other_selectors_are_refused_by_name_before_anything_is_sent(selector, reason):
    # nothing answers at this address
    options = {"base_url": "http://127.0.0.1:9/v1"}
    decoder = NeuronAgreementDecoder("tiny", engine="openai", engine_options=options)
    with pytest.raises(ConfigurationError, match=f"{selector!r} {reason}.* choose one of auto, mean_logprob"):
        decoder.decode("hello", config=NADConfig(selector=selector))


def test_losers_are_dropped_and_the_winner_streams(decoder):
    config = NADConfig(selector="mean_logprob", pruning="first_chunk", chunk_size=8)
    events = list(decoder.stream("hello", sampling=long(max_new_tokens=60), config=config))
    assert isinstance(events[-1], Finished)
    selection = events[-1].selection
    pruned = [candidate for candidate in selection.candidates if candidate.finish_reason == "pruned"]
    assert all(candidate.tokens == 8 for candidate in pruned)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == selection.text


def test_stop_strings_and_token_limits_hold(decoder):
    whole = decoder.decode("hello").candidates[0].text
    stop = whole[2:4]
    stopped = decoder.decode("hello", sampling=SAMPLING.model_copy(update={"stop": (stop,)})).candidates[0]
    assert stopped.text == whole.partition(stop)[0]
    cut = decoder.decode("hello", sampling=SAMPLING.model_copy(update={"max_new_tokens": 4}))
    assert [candidate.tokens for candidate in cut.candidates] == [4, 4, 4]
    assert {candidate.finish_reason for candidate in cut.candidates} == {"length"}


def test_cancelling_closes_the_connections(decoder, served):
    running = threading.Event()
    (pending,) = decoder.submit(["hello"], sampling=long(), on_progress=lambda _: running.set())
    assert running.wait(30)
    pending.cancel()
    with pytest.raises(GenerationCancelledError):
        pending.result()
    assert decoder.engine.rows == 0
    for _ in range(2000):
        if served.engine.rows == 0:
            break
        threading.Event().wait(0.01)
    assert served.engine.rows == 0


def test_a_chat_model_gives_objects_by_the_servers_response_format(decoder):
    model = NADChatModel(decoder=decoder, max_tokens=64)
    assert isinstance(model.invoke("hello"), AIMessage)
    assert set(model.with_structured_output(SCHEMA, method="json_schema").invoke("hello")) == {"sure"}


def test_a_forced_call_is_refused_by_name(decoder):
    tool = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": SCHEMA}}
    with pytest.raises(ConfigurationError, match="to a JSON schema only, and not to forced tool calls"):
        NADChatModel(decoder=decoder, max_tokens=96).bind_tools([tool], tool_choice="any").invoke("hello")


def test_a_failing_server_is_named(url):
    absent = NeuronAgreementDecoder("no-such-model", engine="openai", engine_options={"base_url": url})
    with pytest.raises(GenerationError, match="no-such-model"):
        absent.decode("hello", config=NADConfig(selector="first"))
    absent.close()


def test_options_are_checked(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ConfigurationError, match="needs the address of a server"):
        NeuronAgreementDecoder("tiny", engine="openai")
    with pytest.raises(ConfigurationError, match="no option 'url'; known are base_url"):
        NeuronAgreementDecoder("tiny", engine="openai", engine_options={"url": "http://localhost"})


def test_the_command_line_asks_a_server(url):
    options = ["-m", "tiny", "--engine", "openai", "--url", url, "-n", "2", "--json", "--max-new-tokens", "8"]
    result = CliRunner().invoke(command, ["ask", "hello", *options])
    assert result.exit_code == 0, result.output
    selection = json.loads(result.stdout)
    assert selection["selector"] == "mean_logprob"
    assert len(selection["candidates"]) == 2


GREEDY = {"messages": [{"role": "user", "content": "hello"}], "temperature": 0, "max_tokens": 12, "logprobs": True}
LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Looks.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}
CALL = 'I look.\n<tool_call>\n{"name": "look", "arguments": {"place": "Zürich"}}\n</tool_call>'


def lines(response):
    """The chunks of a streamed response."""
    data = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    assert data.pop() == "[DONE]"
    return [json.loads(line) for line in data]


def test_a_server_in_front_gives_the_servers_log_probabilities_token_by_token(url):
    behind = httpx.post(f"{url}/chat/completions", json={**GREEDY, "model": "tiny"}).json()["choices"][0]
    entries = behind["logprobs"]["content"]
    assert len(entries) > 4
    with front(url) as client:
        ask = {**GREEDY, "model": "front", "nad": {"n": 1}}
        (choice,) = client.post("/v1/chat/completions", json=ask).json()["choices"]
        chunks = lines(client.post("/v1/chat/completions", json={**ask, "stream": True}))
    assert choice["message"]["content"] == behind["message"]["content"]
    found = choice["logprobs"]["content"]
    assert [entry["logprob"] for entry in found] == pytest.approx([entry["logprob"] for entry in entries], abs=1e-5)
    assert "".join(entry["token"] for entry in found) == choice["message"]["content"]
    streamed = [one["choices"][0] for one in chunks if one["choices"]]
    together = [entry for one in streamed if one["logprobs"] for entry in one["logprobs"]["content"]]
    assert together == found
    assert "".join(one["delta"].get("content", "") for one in streamed) == choice["message"]["content"]


def test_so_do_its_completions(url):
    ask = {"prompt": "hello", "temperature": 0, "max_tokens": 12, "logprobs": 0}
    behind = httpx.post(f"{url}/completions", json={**ask, "model": "tiny"}).json()["choices"][0]
    with front(url) as client:
        (choice,) = client.post("/v1/completions", json={**ask, "model": "front", "nad": {"n": 1}}).json()["choices"]
    assert choice["text"] == behind["text"]
    expected = pytest.approx(behind["logprobs"]["token_logprobs"], abs=1e-5)
    assert choice["logprobs"]["token_logprobs"] == expected
    assert "".join(choice["logprobs"]["tokens"]) == choice["text"]


def test_where_the_server_is_not_asked_for_log_probabilities_a_client_gets_null(url):
    with front(url, logprobs=False) as client:
        answer = client.post("/v1/chat/completions", json={**GREEDY, "model": "front", "nad": {"n": 1}})
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["logprobs"] is None


def test_tool_calls_of_the_server_come_through():
    with serving(ScriptedDecoder(ScriptedAnswer([CALL]))) as url, front(url) as client:
        ask = {"model": "front", "messages": GREEDY["messages"], "tools": [LOOK], "nad": {"n": 2}}
        (choice,) = client.post("/v1/chat/completions", json=ask).json()["choices"]
        chunks = lines(client.post("/v1/chat/completions", json={**ask, "stream": True}))
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "I look."
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "look"
    assert json.loads(call["function"]["arguments"]) == {"place": "Zürich"}
    streamed = [one["choices"][0] for one in chunks if one["choices"]]
    parts = [part["function"] for one in streamed for part in one["delta"].get("tool_calls", ())]
    assert parts[0]["name"] == "look"
    assert json.loads("".join(part["arguments"] for part in parts)) == {"place": "Zürich"}
    assert streamed[-1]["finish_reason"] == "tool_calls"


def test_the_server_gets_the_tools_and_the_earlier_turns():
    behind = ScriptedDecoder(ScriptedAnswer(["It rains."]))
    call = {"id": "a", "type": "function", "function": {"name": "look", "arguments": '{"place": "Zürich"}'}}
    turns = [
        *GREEDY["messages"],
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "rain"},
    ]
    with serving(behind) as url, front(url) as client:
        ask = {"model": "front", "messages": turns, "tools": [LOOK], "nad": {"n": 1}}
        (choice,) = client.post("/v1/chat/completions", json=ask).json()["choices"]
    assert choice["message"]["content"] == "It rains."
    prompt = json.dumps(behind.requests[0].prompt, ensure_ascii=False)
    assert "look" in prompt
    assert "Zürich" in prompt
    assert "rain" in prompt


def test_a_chat_model_gets_calls_from_the_server():
    with serving(ScriptedDecoder(ScriptedAnswer([CALL]))) as url:
        decoder = NeuronAgreementDecoder(
            "tiny",
            engine="openai",
            engine_options={"base_url": url},
            sampling=SAMPLING,
            config=NADConfig(selector="first"),
        )
        model = NADChatModel(decoder=decoder, max_tokens=96).bind_tools([LOOK])
        (call,) = model.invoke("hello").tool_calls
        chunks = list(model.stream("hello"))
        decoder.close()
    assert (call["name"], call["args"]) == ("look", {"place": "Zürich"})
    whole = chunks[0]
    for one in chunks[1:]:
        whole += one
    assert [(one["name"], one["args"]) for one in whole.tool_calls] == [("look", {"place": "Zürich"})]
