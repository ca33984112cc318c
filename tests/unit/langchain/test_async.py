"""The async side: the same answers, a free event loop, cancellation that stops the generation."""

import asyncio
from contextlib import aclosing

import pytest
from langchain_core.prompts import ChatPromptTemplate
from langchain_nad import GenerationTimeoutError

from nad_agents import GenerationError, PromptError
from nad_agents.testing import AcceptingVerifier
from tests.tiny_models import make_model
from tests.unit.event_loops import a_free_loop, check_that_cancelling_ends, held_in_step, until_idle
from tests.unit.langchain.chats import fail_first, tiny_chat, tiny_decoder
from tests.unit.langchain.streams import Listener


async def test_the_same_answers():
    chat = tiny_chat()
    whole = chat.invoke("hello")
    found = await chat.ainvoke("hello")
    assert found.content == whole.content
    assert found.usage_metadata == whole.usage_metadata
    chat = tiny_chat(pruning="first_chunk")
    chunks = [chunk async for chunk in chat.astream("hello")]
    assert sum(chunks[1:], chunks[0]).content == chat.invoke("hello").content
    assert len([c for c in chunks if c.content]) > 5


@pytest.mark.usefixtures("blocking_is_an_error")
async def test_the_event_loop_is_never_blocked():
    chat = await asyncio.to_thread(tiny_chat, max_tokens=60)
    checked = await asyncio.to_thread(tiny_chat, verifier=AcceptingVerifier(), max_tokens=20)
    async with a_free_loop():
        await chat.ainvoke("hello")
        await checked.ainvoke("hello")
        async for _ in chat.astream("hello", pruning="first_chunk"):
            pass


async def test_a_cancelled_task_stops_the_generation():
    decoder = tiny_decoder()
    chat = tiny_chat(decoder=decoder, max_tokens=450, n=16)
    await check_that_cancelling_ends(decoder, chat.ainvoke("hello"))


async def test_leaving_a_stream_stops_the_generation():
    decoder = tiny_decoder()
    chat = tiny_chat(decoder=decoder, max_tokens=450, pruning="first_chunk")
    with held_in_step(decoder, 3) as begun:
        async with aclosing(chat.astream("hello")) as stream:
            async for _ in stream:
                break
    await until_idle(decoder, begun, 3)

    async def read():
        async for _ in chat.astream("hello"):
            pass

    await check_that_cancelling_ends(decoder, read())


async def test_concurrent_calls_share_the_engine():
    decoder = tiny_decoder()
    rows = []
    step = decoder.engine.step
    decoder.engine.step = lambda tokens: (rows.append(decoder.engine.rows), step(tokens))[1]
    chat = tiny_chat(decoder=decoder, max_tokens=100)
    answers = await chat.abatch([f"prompt {i}" for i in range(6)])
    assert len(answers) == 6
    assert max(rows) >= 20
    rows.clear()
    await chat.abatch(["a", "b", "c"], {"max_concurrency": 1}, max_tokens=8)
    assert max(rows) == 4


async def test_errors():
    with pytest.raises(PromptError):
        await tiny_chat().ainvoke("x" * 600)
    with pytest.raises(GenerationTimeoutError):
        await tiny_chat(max_tokens=450, n=16, timeout=0.05).ainvoke("hello")
    model = make_model("llama")
    chat = tiny_chat(decoder=tiny_decoder(model=model), max_retries=1)
    failures = fail_first(model, 1)
    assert (await chat.ainvoke("hello")).content
    failures.extend([1, 2])
    with pytest.raises(GenerationError, match="out of memory"):
        await chat.ainvoke("hello")


async def test_progress():
    listener = Listener()
    await tiny_chat().ainvoke("hello", config={"callbacks": [listener]})
    assert [name for name, _, _ in listener.events] == ["nad_progress"] * len(listener.events)
    assert len(listener.events) >= 3
    # as a UI hears it: by the events of a chain
    chain = ChatPromptTemplate.from_template("{q}") | tiny_chat(pruning="first_chunk")
    events = [e async for e in chain.astream_events({"q": "hello"}, version="v2")]
    assert [e["name"] for e in events if e["event"] == "on_custom_event"].count("nad_progress") >= 3
    assert sum(e["event"] == "on_chat_model_stream" for e in events) > 5
