"""The async side: the same answers, a free event loop, cancellation that stops the generation."""

import asyncio
from contextlib import aclosing, closing

import pytest
from langchain_nad import GenerationTimeoutError
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate

from nad_agents import PromptError
from tests.unit.event_loops import a_free_loop, check_that_cancelling_ends, held_in_step, until_idle
from tests.unit.langchain.chats import tiny_decoder
from tests.unit.llama_index.models import Song, roomy_llm, tiny_llm

HELLO = [ChatMessage("hello")]


async def test_the_same_answers():
    llm = tiny_llm(pruning="first_chunk")
    whole = llm.chat(HELLO)
    assert (await llm.achat(HELLO)).raw["usage"] == whole.raw["usage"]
    assert (await llm.acomplete("hello")).text == whole.message.content
    pieces = [piece async for piece in await llm.astream_chat(HELLO)]
    assert "".join(piece.delta for piece in pieces) == whole.message.content
    assert len(pieces) > 5
    pieces = [piece async for piece in await llm.astream_complete("hello")]
    assert pieces[-1].text == whole.message.content
    assert pieces[-1].raw["nad"]["winner"] == whole.raw["nad"]["winner"]


@pytest.mark.usefixtures("blocking_is_an_error")
async def test_the_event_loop_is_never_blocked():
    llm = await asyncio.to_thread(roomy_llm, max_tokens=60)
    async with a_free_loop():
        await llm.achat(HELLO)
        await llm.acomplete("hello", formatted=True)
        async for _ in await llm.astream_chat(HELLO, pruning="first_chunk"):
            pass
        await llm.astructured_predict(Song, PromptTemplate("A song."))


async def test_a_cancelled_task_stops_the_generation():
    decoder = tiny_decoder()
    llm = tiny_llm(decoder=decoder, max_tokens=450, n=16)
    for ask in (llm.achat(HELLO), llm.acomplete("hello")):
        await check_that_cancelling_ends(decoder, ask)


async def test_leaving_a_stream_stops_the_generation():
    decoder = tiny_decoder()
    llm = tiny_llm(decoder=decoder, max_tokens=450, pruning="first_chunk")
    with held_in_step(decoder, 3) as begun:
        async with aclosing(await llm.astream_chat(HELLO)) as stream:
            async for _ in stream:
                break
    await until_idle(decoder, begun, 3)
    with held_in_step(decoder, 3) as begun:
        async for _ in await llm.astream_complete("hello"):
            break
    await until_idle(decoder, begun, 3)
    with held_in_step(decoder, 3) as begun, closing(llm.stream_chat(HELLO)) as stream:
        await asyncio.to_thread(next, stream)
    await until_idle(decoder, begun, 3)


async def test_a_stream_that_nobody_reads_generates_nothing():
    decoder = tiny_decoder()
    llm = tiny_llm(decoder=decoder)
    await llm.astream_chat(HELLO)
    llm.stream_chat(HELLO)
    await asyncio.sleep(0.05)
    assert not decoder.engine.rows


async def test_concurrent_calls_share_the_engine():
    decoder = tiny_decoder()
    rows = []
    step = decoder.engine.step
    decoder.engine.step = lambda tokens: (rows.append(decoder.engine.rows), step(tokens))[1]
    llm = tiny_llm(decoder=decoder, max_tokens=100)
    await asyncio.gather(*(llm.acomplete(f"prompt {i}") for i in range(6)))
    assert max(rows) >= 20


async def test_errors():
    with pytest.raises(PromptError):
        await tiny_llm().acomplete("x" * 600)
    with pytest.raises(PromptError):
        async for _ in await tiny_llm().astream_complete("x" * 600):
            pass
    with pytest.raises(GenerationTimeoutError):
        await tiny_llm(max_tokens=450, n=16, timeout=0.05).acomplete("hello")
