"""Answers of the chat model over a tiny real model: content, evidence, streams, batches, errors."""

import threading
import time

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_nad import PROGRESS_EVENT, GenerationTimeoutError

from nad_agents import (
    GenerationError,
    NoCandidatePassedError,
    PromptError,
    SamplingConfig,
    VerificationConfig,
    VerificationError,
)
from nad_agents.testing import AcceptingVerifier
from tests.tiny_models import make_model
from tests.unit.event_loops import held_in_step, wait_until_idle
from tests.unit.langchain.chats import fail_first, tiny_chat, tiny_decoder
from tests.unit.langchain.streams import Listener


def test_one_generation_with_its_evidence():
    chat = tiny_chat()
    result = chat.generate([[HumanMessage("hello")]])
    assert len(result.generations[0]) == 1
    message = result.generations[0][0].message
    expected = chat.get_decoder().decode(
        [{"role": "user", "content": "hello"}], sampling=chat.settings().sampling, config=chat.settings().config
    )
    assert message.content == expected.text
    assert message.response_metadata["model_name"] == "tiny"
    assert message.response_metadata["model_provider"] == "nad"
    assert message.response_metadata["finish_reason"] == expected.best.finish_reason
    evidence = message.response_metadata["nad"]
    assert evidence["ranking"] == list(expected.ranking)
    assert evidence["scores"] == [c.score for c in expected.candidates]
    assert (evidence["selector"], evidence["n"], evidence["seed"]) == ("nad_fusion", 4, 3)
    assert evidence["agreement"] == expected.best.agreement
    assert "candidates" not in evidence
    assert "verification" not in evidence
    usage = message.usage_metadata
    assert usage["input_tokens"] == expected.usage.prompt_tokens
    assert usage["output_tokens"] == evidence["tokens_generated"] == sum(c.tokens for c in expected.candidates)
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["output_token_details"] == {"winner": expected.best.tokens, "saved": 0}


def test_candidates_on_request():
    evidence = tiny_chat().invoke("hello", include_candidates=True).response_metadata["nad"]
    assert [c["index"] for c in evidence["candidates"]] == [0, 1, 2, 3]
    assert len({c["text"] for c in evidence["candidates"]}) == 4
    assert [len(row) for row in evidence["similarity_matrix"]] == [4] * 4


def test_the_seed_repeats_and_a_call_may_change_what_it_wants():
    chat = tiny_chat()
    first = chat.invoke("hello")
    assert chat.invoke("hello").content == first.content
    assert chat.invoke("hello", seed=4).content != first.content
    assert chat.bind(n=2, max_tokens=5).invoke("hello").usage_metadata["output_tokens"] <= 10
    assert chat.invoke("hello", n=1).response_metadata["nad"]["selector"] == "first"


def test_in_a_chain():
    chain = ChatPromptTemplate.from_messages([("system", "Be {how}."), ("human", "{q}")]) | tiny_chat()
    chain |= StrOutputParser()
    answer = chain.invoke({"how": "brief", "q": "hi"})
    assert isinstance(answer, str)
    assert answer == tiny_chat().invoke([("system", "Be brief."), ("human", "hi")]).content


def test_stop_strings_end_the_answer_and_never_show():
    text = tiny_chat().invoke("hello").text
    stop = text[5:7]
    cut = tiny_chat(stop=[stop]).invoke("hello", include_candidates=True)
    assert all(stop not in c["text"] for c in cut.response_metadata["nad"]["candidates"])
    assert cut.content == tiny_chat().invoke("hello", stop=[stop]).content
    streamed = [c.text for c in tiny_chat(stop=[stop], pruning="first_chunk").stream("hello")]
    assert stop not in "".join(streamed)


@pytest.mark.parametrize("pruning", ["never", "first_chunk"])
def test_the_stream_adds_up_to_the_answer(pruning):
    chat = tiny_chat(pruning=pruning)
    chunks = list(chat.stream("hello"))
    full = sum(chunks[1:], chunks[0])
    whole = chat.invoke("hello")
    assert full.content == whole.content
    assert full.usage_metadata == whole.usage_metadata
    for metadata in (full.response_metadata["nad"], whole.response_metadata["nad"]):
        metadata.pop("timings")
    assert full.response_metadata == whole.response_metadata
    assert chunks[-1].chunk_position == "last"
    assert sum(c.usage_metadata is not None for c in chunks) == 1
    if pruning == "first_chunk":
        assert len([c for c in chunks if c.content]) > 5


def test_early_stopping_streams_while_it_generates():
    decoder = tiny_decoder()
    chat = tiny_chat(decoder=decoder, pruning="first_chunk", max_tokens=400)
    chat.invoke("warm up", max_tokens=2)
    with held_in_step(decoder, 3) as begun:
        stream = chat.stream("hello")
        next(stream)
        # the rest is still to be generated: leaving now must end the request, long before its 400 tokens
        stream.close()
    wait_until_idle(decoder, begun, 3)


def test_a_batch_shares_the_engine():
    decoder = tiny_decoder()
    rows = []
    step = decoder.engine.step

    def watched(tokens):
        rows.append(decoder.engine.rows)
        step(tokens)

    decoder.engine.step = watched
    chat = tiny_chat(decoder=decoder, max_tokens=48)
    answers = chat.batch([f"prompt {i}" for i in range(12)])
    assert len(answers) == 12
    # twelve prompts of four candidates; the first may have started alone
    assert max(rows) >= 40
    rows.clear()
    chat.batch(["a", "b", "c"], {"max_concurrency": 1}, max_tokens=8)
    assert max(rows) == 4
    assert chat.batch(["x"], [{"tags": ["t"]}], max_tokens=8)[0].content == chat.invoke("x", max_tokens=8).content
    assert chat.batch([]) == []
    rows.clear()
    assert dict(chat.batch_as_completed([f"prompt {i}" for i in range(12)])).keys() == set(range(12))
    assert max(rows) >= 40


def test_a_batch_may_return_errors():
    good, bad = tiny_chat().batch(["hi", [HumanMessage([{"type": "image", "url": "x"}])]], return_exceptions=True)
    assert good.content
    assert isinstance(bad, PromptError)


def test_several_threads():
    chat = tiny_chat()
    expected = {i: tiny_chat().invoke(f"prompt {i}").content for i in range(6)}
    found = {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: chat.invoke(f"prompt {i}").content})) for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == expected


def test_the_verifier_walks_the_ranking():
    texts = [
        c["text"] for c in tiny_chat().invoke("hello", include_candidates=True).response_metadata["nad"]["candidates"]
    ]
    plain = tiny_chat().invoke("hello").response_metadata["nad"]
    wanted = plain["ranking"][2]
    message = tiny_chat(verifier=AcceptingVerifier(texts[wanted]), verification=VerificationConfig(parallel=1)).invoke(
        "hello"
    )
    assert message.content == texts[wanted]
    assert message.response_metadata["nad"]["winner"] == wanted
    assert message.response_metadata["nad"]["verification"] == {
        "passed": True, "checked": 3, "verdict": {"passed": True, "feedback": ""},
    }  # fmt: skip
    failed = tiny_chat(verifier=AcceptingVerifier()).invoke("hello").response_metadata["nad"]["verification"]
    assert failed["passed"] is False
    with pytest.raises(NoCandidatePassedError):
        tiny_chat(verifier=AcceptingVerifier(), verification=VerificationConfig(on_failure="error")).invoke("hello")


class TestErrors:
    def test_those_of_the_engine_arrive_at_once_and_the_model_goes_on(self):
        model = make_model("llama")
        chat = tiny_chat(decoder=tiny_decoder(model=model))

        def broken(*args, **kwargs):
            raise RuntimeError("out of memory")

        forward, model.forward = model.forward, broken
        started = time.monotonic()
        with pytest.raises(GenerationError, match="out of memory"):
            chat.invoke("hello")
        with pytest.raises(GenerationError, match="out of memory"):
            list(chat.stream("hello"))
        assert time.monotonic() - started < 5
        model.forward = forward
        assert chat.invoke("hello").content

    def test_retries_what_may_pass(self):
        model = make_model("llama")
        chat = tiny_chat(decoder=tiny_decoder(model=model), max_retries=2)
        failures = fail_first(model, 2)
        assert chat.invoke("hello").content
        failures.extend([1, 2, 3])
        with pytest.raises(GenerationError, match="out of memory"):
            chat.invoke("hello")

    def test_a_broken_verifier_is_not_a_wrong_answer(self):
        def broken(answer):
            raise OSError("no engine")

        verifier = AcceptingVerifier(broken)
        with pytest.raises(VerificationError, match="no engine"):
            tiny_chat(verifier=verifier, verification=VerificationConfig(parallel=1)).invoke("hello")

    def test_too_long_a_prompt(self):
        with pytest.raises(PromptError, match="512"):
            tiny_chat().invoke("x" * 600)

    def test_timeout(self):
        chat = tiny_chat(max_tokens=450, n=16, timeout=0.05)
        started = time.monotonic()
        with pytest.raises(GenerationTimeoutError, match=r"timeout=0\.05") as caught:
            chat.invoke("hello")
        assert isinstance(caught.value, TimeoutError)
        assert time.monotonic() - started < 10
        with pytest.raises(GenerationTimeoutError):
            list(chat.stream("hello"))
        assert chat.invoke("hello", max_tokens=2, timeout=None).content is not None


class TestProgress:
    def test_tells_how_candidates_grow(self):
        listener = Listener()
        chat = tiny_chat(chunk_size=16)
        heard = chat.invoke("hello", config={"callbacks": [listener]})
        assert heard.content == chat.invoke("hello").content
        assert {name for name, _, _ in listener.events} == {PROGRESS_EVENT}
        assert len({run for _, _, run in listener.events}) == 1
        generated = [data["generated"] for _, data, _ in listener.events]
        assert generated == sorted(generated)
        assert generated[-1] == heard.usage_metadata["output_tokens"]
        assert listener.events[0][1] == {"tokens": 8, "live": [0, 1, 2, 3], "generated": 32}

    def test_in_a_streaming_chain(self):
        listener = Listener()
        chain = ChatPromptTemplate.from_template("{q}") | tiny_chat(pruning="first_chunk")
        assert list(chain.stream({"q": "hello"}, {"callbacks": [listener]}))
        assert listener.events
        assert listener.tokens

    def test_nobody_listens_nothing_is_sent(self, monkeypatch):
        chat = tiny_chat()
        submit = chat.get_decoder().submit
        seen = []
        monkeypatch.setattr(chat.get_decoder(), "submit", lambda *a, **k: seen.append(k) or submit(*a, **k))
        chat.invoke("hello", config={"callbacks": [BaseCallbackHandler()]})
        assert seen[0]["streaming"] is False


def test_the_cache_of_langchain():
    cache = InMemoryCache()
    chat = tiny_chat(cache=cache, seed=None)
    assert chat.invoke("hello").content == chat.invoke("hello").content
    assert chat.invoke("hello", temperature=0.9).content != chat.invoke("hello").content


def test_tokens_are_counted_by_the_models_own_tokenizer():
    chat = tiny_chat()
    assert chat.get_num_tokens("hello") == 5
    messages = [HumanMessage("hello")]
    assert chat.get_num_tokens_from_messages(messages) == chat.invoke(messages).usage_metadata["input_tokens"]


def test_streaming_off_and_on():
    whole = tiny_chat().invoke("hello").content
    off = list(tiny_chat(disable_streaming=True, pruning="first_chunk").stream("hello"))
    assert [c.content for c in off] == [whole] or len(off) == 1
    assert not isinstance(off[0], AIMessageChunk)
    listener = Listener()
    tiny_chat(streaming=True, pruning="first_chunk").invoke("hello", config={"callbacks": [listener]})
    assert len(listener.tokens) > 5


def test_rate_limiter():
    limiter = InMemoryRateLimiter(requests_per_second=20, check_every_n_seconds=0.01, max_bucket_size=1)
    chat = tiny_chat(rate_limiter=limiter, max_tokens=1)
    started = time.monotonic()
    for _ in range(5):
        chat.invoke("hi")
    assert time.monotonic() - started > 0.15


def test_sampling_config_is_reachable():
    assert tiny_chat().settings().sampling == SamplingConfig(
        n=4, max_new_tokens=30, temperature=1.0, top_k=0, top_p=1.0, seed=3
    )
