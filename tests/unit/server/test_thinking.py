"""Answers of models that think first: apart from the text, in order, whole and streamed."""

import itertools
import json

import openai
import pytest

from tests.tiny_models import make_model
from tests.unit.chat.templates import JSON, Writes, templated
from tests.unit.server.servers import ADD, http, make_app

THOUGHT, TEXT = "First I add two and three, which makes five.", "It is five, of course."
CALL = '<|call|>{"name": "add", "arguments": {"a": 2, "b": 3}}<|/call|>'
EARLY = {"nad": {"pruning": "first_chunk"}}


def writing_app(text):
    tokenizer = templated(JSON, "<|think|>", "<|/think|>", "<|call|>", "<|/call|>")
    model = make_model("llama", num_hidden_layers=1, max_position_embeddings=4096, vocab_size=len(tokenizer))
    app = make_app(model=model, tokenizer=tokenizer)
    decoder = app.state.server.decoder
    submit, ids = decoder.submit, tokenizer(text)["input_ids"]

    def written(*args, logits_processors=None, **more):
        return submit(*args, logits_processors=logits_processors or (lambda: [Writes(ids)]), **more)

    decoder.submit = written
    return app


@pytest.fixture(scope="module")
def app():
    return writing_app(f"<|think|>{THOUGHT}<|/think|>{TEXT}")


@pytest.fixture(scope="module")
def calling():
    return writing_app(f"<|think|>{THOUGHT}<|/think|>{CALL}")


async def events(app, path, body):
    async with http(app) as wire:
        answer = await wire.post(path, json={"model": "tiny", "stream": True, **body})
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("early", [{}, EARLY])
async def test_chat(app, early):
    asked = {"messages": [{"role": "user", "content": "2 + 3?"}], "max_tokens": 200, **early}
    async with http(app) as wire:
        whole = (await wire.post("/v1/chat/completions", json={"model": "tiny", **asked})).json()
    message = whole["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == (THOUGHT, TEXT)
    deltas = [c["choices"][0]["delta"] for c in await events(app, "/v1/chat/completions", asked)]
    thoughts = [d["reasoning_content"] for d in deltas if "reasoning_content" in d]
    assert "".join(thoughts) == THOUGHT
    assert "".join(d.get("content", "") for d in deltas) == TEXT
    assert bool(early) == (len(thoughts) > 5)
    # all thinking comes before any text
    kinds = [
        kind for kind, _ in itertools.groupby("thought" if "reasoning_content" in d else "text" for d in deltas[1:])
    ]
    assert kinds == ["thought", "text"]


@pytest.mark.parametrize("early", [{}, EARLY])
async def test_responses(app, early):
    asked = {"input": "2 + 3?", "max_output_tokens": 200, **early}
    found = await events(app, "/v1/responses", asked)
    *_, last = found
    reasoning, message = last["response"]["output"]
    assert reasoning["content"] == [{"type": "reasoning_text", "text": THOUGHT}]
    assert message["content"][0]["text"] == TEXT
    assert last["response"]["usage"]["output_tokens_details"]["reasoning_tokens"] == len(THOUGHT)
    kinds = [kind for kind, _ in itertools.groupby(event["type"] for event in found)]
    assert [kind for kind in kinds if kind != "response.in_progress"] == [
        "response.created",
        *("response.output_item.added", "response.content_part.added"),
        *("response.reasoning_text.delta", "response.reasoning_text.done"),
        *("response.content_part.done", "response.output_item.done"),
        *("response.output_item.added", "response.content_part.added"),
        *("response.output_text.delta", "response.output_text.done"),
        *("response.content_part.done", "response.output_item.done"),
        "response.completed",
    ]
    assert [e["output_index"] for e in found if e["type"] == "response.output_item.done"] == [0, 1]
    assert [e["item"] for e in found if e["type"] == "response.output_item.done"] == [reasoning, message]
    for kind, text in (("reasoning_text", THOUGHT), ("output_text", TEXT)):
        assert "".join(e["delta"] for e in found if e["type"] == f"response.{kind}.delta") == text
    assert [e["sequence_number"] for e in found] == list(range(len(found)))


@pytest.mark.parametrize("early", [{}, EARLY])
async def test_logprobs_are_those_of_the_text(app, early):
    asked = {"messages": [{"role": "user", "content": "2 + 3?"}], "max_tokens": 200, "logprobs": True, **early}
    async with http(app) as wire:
        whole = (await wire.post("/v1/chat/completions", json={"model": "tiny", **asked})).json()
        other = {"input": "2 + 3?", "include": ["message.output_text.logprobs"], **early}
        response = (await wire.post("/v1/responses", json={"model": "tiny", **other})).json()
    entries = whole["choices"][0]["logprobs"]["content"]
    assert "".join(entry["token"] for entry in entries) == TEXT
    streamed = [c["choices"][0] for c in await events(app, "/v1/chat/completions", asked)]
    assert [e for choice in streamed if choice["logprobs"] for e in choice["logprobs"]["content"]] == entries
    assert "".join(choice["delta"].get("content") or "" for choice in streamed) == TEXT
    part = response["output"][1]["content"][0]
    assert "".join(entry["token"] for entry in part["logprobs"]) == part["text"] == TEXT


async def test_thinking_before_a_call(calling):
    found = await events(
        calling, "/v1/responses", {"input": "2 + 3?", "tools": [{**ADD["function"], "type": "function"}]}
    )
    assert [item["type"] for item in found[-1]["response"]["output"]] == ["reasoning", "function_call"]
    added = [(e["output_index"], e["item"]["type"]) for e in found if e["type"] == "response.output_item.added"]
    assert added == [(0, "reasoning"), (1, "function_call")]


async def test_openais_client_reads_it(app):
    async with (
        http(app) as wire,
        openai.AsyncOpenAI(base_url="http://server/v1", api_key="k", http_client=wire, max_retries=0) as client,
        client.responses.stream(model="tiny", input="2 + 3?", max_output_tokens=200) as stream,
    ):
        final = await stream.get_final_response()
    assert [item.type for item in final.output] == ["reasoning", "message"]
    assert final.output_text == TEXT
