"""The completion model: prompts as they are, one generation each, evidence in generation_info."""

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.load import dumpd, load
from langchain_nad import NADLLM

from nad_agents import ConfigurationError
from nad_agents.testing import AcceptingVerifier
from tests.tiny_models import byte_tokenizer
from tests.unit.event_loops import check_that_cancelling_ends
from tests.unit.langchain.chats import NEURONS, SAMPLING, tiny_decoder


def tiny_llm(**options):
    options = {**SAMPLING, **NEURONS, **options}
    options.setdefault("decoder", tiny_decoder(tokenizer=byte_tokenizer(chat=False)))
    return NADLLM(**options)


def test_text_goes_on_as_it_is():
    llm = tiny_llm()
    result = llm.generate(["hello", "another"])
    assert [len(g) for g in result.generations] == [1, 1]
    info = result.generations[0][0].generation_info
    assert info["nad"]["n"] == 4
    assert info["usage_metadata"]["input_tokens"] == 5
    expected = llm.get_decoder().decode(
        "hello", raw=True, sampling=llm.settings().sampling, config=llm.settings().config
    )
    assert result.generations[0][0].text == expected.text == llm.invoke("hello")


def test_the_decoders_own_verifier_judges_text_as_well():
    verifier = AcceptingVerifier()
    llm = tiny_llm(decoder=tiny_decoder(tokenizer=byte_tokenizer(chat=False), verifier=verifier))
    assert llm.generate(["hello"]).generations[0][0].text in [call.answer for call in verifier.calls]


async def test_the_cache_knows_what_a_call_changes():
    llm = tiny_llm(cache=InMemoryCache())
    first = llm.invoke("hello")
    assert llm.invoke("hello", seed=4) not in (first, llm.invoke("hello", seed=5))
    assert len(llm.invoke("hello", max_tokens=3)) <= 3
    assert llm.invoke("hello") == first == await llm.ainvoke("hello")
    assert await llm.ainvoke("hello", seed=4) == llm.invoke("hello", seed=4)
    calls = []
    llm.get_decoder().submit = lambda *_, **__: calls.append(1)
    assert llm.invoke("hello", seed=4, config={"tags": ["t"]}) != first
    assert not calls


def test_streams_and_batches():
    llm = tiny_llm(pruning="first_chunk")
    pieces = list(llm.stream("hello"))
    assert len(pieces) > 5
    assert "".join(pieces) == llm.invoke("hello")
    assert llm.batch(["hello", "another"]) == [llm.invoke("hello"), llm.invoke("another")]


async def test_without_blocking():
    llm = tiny_llm(pruning="first_chunk")
    assert await llm.ainvoke("hello") == llm.invoke("hello")
    assert "".join([piece async for piece in llm.astream("hello")]) == llm.invoke("hello")
    long = tiny_llm(max_tokens=450, n=16)
    await check_that_cancelling_ends(long.get_decoder(), long.ainvoke("hello"))


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_describes_and_refuses_like_the_chat_model():
    llm = NADLLM(model="a/b", temperature=0.3)
    again = load(dumpd(llm), allowed_objects=[NADLLM], valid_namespaces=["langchain_nad"])
    assert again.asdict() == llm.asdict()
    assert "nad-agents" in llm.metadata["lc_versions"]
    with pytest.raises(ConfigurationError, match="did you mean 'temperature'"):
        NADLLM(temprature=1)
    assert tiny_llm().get_num_tokens("hello") == 5
