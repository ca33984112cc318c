"""The chat model on the real default model, as users run it."""

import time

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_nad import NADChatModel


def test_a_chain_answers_in_words():
    chat = NADChatModel(n=4, max_tokens=40, temperature=0.5, seed=1)
    chain = ChatPromptTemplate.from_messages([("system", "Answer briefly."), ("human", "{question}")]) | chat
    chain |= StrOutputParser()
    assert "Paris" in chain.invoke({"question": "What is the capital of France?"})


def test_instances_share_the_weights_and_construction_costs_nothing():
    first = NADChatModel(n=2, max_tokens=8)
    first.invoke("Hello")
    started = time.perf_counter()
    others = [NADChatModel(n=3, seed=i) for i in range(10)]
    assert time.perf_counter() - started < 1
    assert all(other.get_decoder() is first.get_decoder() for other in others)


def test_early_stopping_streams_from_the_first_chunk_and_saves_tokens():
    chat = NADChatModel(n=4, max_tokens=80, seed=2, pruning="first_chunk", selector="knn")
    chunks = list(chat.stream("Write a short story about a fox who learns to swim."))
    texts = [chunk.text for chunk in chunks if chunk.text]
    assert len(texts) > 10
    full = sum(chunks[1:], chunks[0])
    assert full.response_metadata["nad"]["tokens_saved"] > 50
    assert full.usage_metadata["output_tokens"] < 4 * 80
    assert full.text == chat.invoke("Write a short story about a fox who learns to swim.").text


async def test_concurrent_questions():
    chat = NADChatModel(n=2, max_tokens=24, temperature=0.3, seed=5)
    answers = await chat.abatch([f"What is the capital of {c}?" for c in ("France", "Germany", "Italy")])
    found = " ".join(answer.text for answer in answers)
    assert sum(city in found for city in ("Paris", "Berlin", "Rome")) >= 2
