"""Servers over a tiny random model, spoken to without a network."""

import asyncio
import json
import time
from contextlib import asynccontextmanager

import httpx
from nad_server import ServerSettings, create_app

from nad_agents import NADConfig, SamplingConfig
from tests.tiny_models import make_model
from tests.unit.langchain.chats import one_layer_model, tiny_decoder

SAMPLING = SamplingConfig(n=4, max_new_tokens=24, temperature=1.0, top_k=0, top_p=1.0)
NEURONS = NADConfig(top_k_neurons=12, top_k_neurons_per_layer=12, chunk_size=8)
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "seed": 3, "max_tokens": 24}
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer", "maximum": 99}, "b": {"type": "integer", "maximum": 99}},
            "required": ["a", "b"],
        },
    },
}


def make_app(verifier=None, runner=None, model=None, tokenizer=None, **settings):
    model = model or one_layer_model(max_position_embeddings=4096)
    decoder = tiny_decoder(model=model, tokenizer=tokenizer, sampling=SAMPLING, config=NEURONS)
    return create_app(decoder, ServerSettings(**settings), verifier=verifier, runner=runner)


@asynccontextmanager
async def http(app, **options):
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://server", **options) as client:
        yield client


def endless_model():
    model = make_model("llama", num_hidden_layers=1, max_position_embeddings=4096)
    model.generation_config.eos_token_id = None
    return model


async def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


async def counted(app, name):
    async with http(app) as wire:
        lines = (await wire.get("/metrics")).text.splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + " ")), 0.0)


async def call(app, body, leave, *, path="/v1/chat/completions", sent=None, reads=None):
    """Ask over ASGI, read so many messages, and go away when told to; httpx's transport cannot leave."""
    sent, asked = [] if sent is None else sent, asyncio.Event()

    async def receive():
        if not asked.is_set():
            asked.set()
            return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}
        await leave.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)
        if len(sent) == reads:
            await asyncio.Event().wait()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"content-type", b"application/json")],
        "client": ("here", 1),
        "server": ("server", 80),
    }
    await app(scope, receive, send)
    return sent
