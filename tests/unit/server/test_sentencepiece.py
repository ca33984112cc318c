"""Tokenizers that leave out the first space of a text: what streams, and what belongs to each token."""

import asyncio
import json

import pytest

from tests.unit.engine.hf.sentencepiece import sentencepiece_tokenizer
from tests.unit.langchain.chats import one_layer_model
from tests.unit.server.servers import http, make_app


@pytest.fixture(scope="module")
def app():
    tokenizer = sentencepiece_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}<s>[INST] {{ m.content }} [/INST]{% endfor %}"
    return make_app(model=one_layer_model(vocab_size=len(tokenizer)), tokenizer=tokenizer)


def post(app, path, **body):
    async def send():
        async with http(app) as client:
            return await client.post(path, json={"model": "tiny", "max_tokens": 12, "n": 1, **body})

    return asyncio.run(send())


def streamed(response):
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: {")]
    return [choice for line in lines for choice in json.loads(line)["choices"]]


@pytest.mark.parametrize("seed", range(8))
def test_completions(app, seed):
    body = {"prompt": "def f():", "seed": seed, "logprobs": 0, "stop": [" return"] if seed % 2 else None}
    whole = post(app, "/v1/completions", **body).json()
    (choice,) = whole["choices"]
    text, logprobs = choice["text"], choice["logprobs"]
    assert " return" not in text or not seed % 2
    assert len(logprobs["tokens"]) >= whole["usage"]["completion_tokens"] - 3
    ends = [*logprobs["text_offset"][1:], len(text)]
    pieces = [text[at:end] for at, end in zip(logprobs["text_offset"], ends, strict=True)]
    assert "".join(pieces) == text
    for piece, token in zip(pieces, logprobs["tokens"], strict=True):
        assert piece == token or (seed % 2 and token.startswith(piece))
    chunks = streamed(post(app, "/v1/completions", **body, stream=True))
    assert "".join(chunk["text"] for chunk in chunks) == text


@pytest.mark.parametrize("seed", range(8))
def test_chats(app, seed):
    body = {"messages": [{"role": "user", "content": "hello"}], "seed": seed, "logprobs": True}
    (choice,) = post(app, "/v1/chat/completions", **body).json()["choices"]
    content = choice["message"]["content"]
    tokens = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens).strip() == content.strip()
    assert b"".join(bytes(token["bytes"]) for token in tokens).decode().strip() == content.strip()
    chunks = streamed(post(app, "/v1/chat/completions", **body, stream=True))
    assert "".join(chunk["delta"].get("content") or "" for chunk in chunks) == content
