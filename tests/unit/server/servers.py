"""Servers over a tiny random model, spoken to without a network."""

from contextlib import asynccontextmanager

import httpx
from nad_server import ServerSettings, create_app

from nad_agents import NADConfig, SamplingConfig
from tests.unit.langchain.chats import one_layer_model, tiny_decoder

SAMPLING = SamplingConfig(n=4, max_new_tokens=24, temperature=1.0, top_k=0, top_p=1.0)
NEURONS = NADConfig(top_k=12, per_layer_top=12, chunk_size=8)
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "seed": 3, "max_tokens": 24}


def make_app(verifier=None, runner=None, model=None, tokenizer=None, **settings):
    model = model or one_layer_model(max_position_embeddings=4096)
    decoder = tiny_decoder(model=model, tokenizer=tokenizer, sampling=SAMPLING, config=NEURONS)
    return create_app(decoder, ServerSettings(**settings), verifier=verifier, runner=runner)


@asynccontextmanager
async def http(app, **options):
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://server", **options) as client:
        yield client
