"""What a caller of the decoder relies on, whichever engine runs the model."""

import asyncio
import threading

import pytest

from nad_agents import (
    ConfigurationError,
    Finished,
    GenerationCancelledError,
    GenerationTimeoutError,
    NADConfig,
    Progress,
    PromptError,
    SamplingConfig,
    TextDelta,
    WinnerChosen,
)
from nad_agents.testing import AcceptingVerifier
from tests.vllm.conftest import CONFIG, SAMPLING


def long(**changes):
    return SAMPLING.model_copy(update={"max_new_tokens": 200, "generation_options": {"min_new_tokens": 200}, **changes})


def test_the_winner_carries_the_evidence(decoder):
    selection = decoder.decode("hello")
    assert sorted(selection.ranking) == [0, 1, 2, 3]
    assert selection.text == selection.best.text
    assert len(selection.similarity_matrix) == 4
    assert selection.usage.generated_tokens == sum(c.tokens for c in selection.candidates)
    assert all(c.activated_neurons and c.mean_logprob < 0 for c in selection.candidates)
    assert selection.timings.decode > 0


def test_a_seed_repeats_everything_and_candidates_differ(decoder):
    a, b = decoder.decode("hello"), decoder.decode("hello")
    assert [c.text for c in a.candidates] == [c.text for c in b.candidates]
    assert a.similarity_matrix == b.similarity_matrix
    assert len({c.text for c in a.candidates}) == 4


def test_a_candidate_is_the_same_however_many_others_there_are(decoder):
    few, many = (decoder.sample("hello", sampling=SAMPLING.model_copy(update={"n": n})).rollouts for n in (2, 6))
    assert [r.token_ids.tolist() for r in few] == [r.token_ids.tolist() for r in many[:2]]


def test_several_prompts_are_what_they_are_alone(decoder):
    texts = ["one", "two", "three"]
    together = [p.outcome().group for p in decoder.submit(texts)]
    for index, text in enumerate(texts):
        (alone,) = decoder.submit([text], first_prompt_index=index)
        assert [r.text for r in alone.outcome().group.rollouts] == [r.text for r in together[index].rollouts]


@pytest.mark.parametrize("selector", ["knn", "medoid", "entropy", "deepconf", "self_certainty", "mean_logprob", "nex"])
def test_selectors_of_every_kind_rank(decoder, selector):
    selection = decoder.decode("hello", config=NADConfig(selector=selector, **CONFIG))
    assert sorted(selection.ranking) == [0, 1, 2, 3]


def test_early_stopping_finishes_the_winner_alone(decoder):
    config = NADConfig(pruning="first_chunk", **CONFIG)
    selection = decoder.decode("hello", sampling=long(), config=config)
    pruned = [c for c in selection.candidates if c.finish_reason == "pruned"]
    assert [c.tokens for c in pruned] == [8, 8, 8]
    assert selection.best.tokens == 200
    # the survivor is what it would have been without the others
    whole = decoder.decode("hello", sampling=long())
    assert selection.text == whole.candidates[selection.winner].text


def test_halving_drops_candidates_at_the_ends_of_chunks(decoder):
    config = NADConfig(pruning="halving", shrink=2, selector="mean_logprob", **CONFIG)
    selection = decoder.decode("hello", sampling=long(n=8), config=config)
    assert sorted(c.tokens for c in selection.candidates) == [8] * 4 + [16] * 2 + [24, 200]


def test_a_stream_tells_of_progress_and_sends_the_text(decoder):
    events = list(decoder.stream("hello", config=NADConfig(pruning="first_chunk", **CONFIG), sampling=long()))
    assert any(isinstance(event, Progress) for event in events)
    assert sum(isinstance(event, WinnerChosen) for event in events) == 1
    deltas = [event.text for event in events if isinstance(event, TextDelta)]
    assert isinstance(events[-1], Finished)
    assert "".join(deltas) == events[-1].selection.text
    assert len(deltas) > 20


def test_a_watched_stream_tells_of_every_candidate(decoder):
    texts = {}
    for event in decoder.stream("hello", watch=True):
        if isinstance(event, Progress):
            for growth in event.growth:
                texts[growth.candidate] = texts.get(growth.candidate, "") + growth.text
        if isinstance(event, Finished):
            assert texts == {c.index: c.text for c in event.selection.candidates}


def test_stop_strings_end_candidates_and_are_cut(decoder):
    whole = decoder.sample("hello").rollouts
    stop = next(r.text[3:5] for r in whole if len(r.text) > 8 and r.text[3:5].isascii())
    stopped = decoder.sample("hello", sampling=SAMPLING.model_copy(update={"stop": (stop,)})).rollouts
    found = [i for i, r in enumerate(whole) if stop in r.text]
    assert found
    for i in found:
        assert stopped[i].text == whole[i].text.partition(stop)[0]
        assert stopped[i].finish_reason == "stop"
        assert len(stopped[i]) <= len(whole[i])


def test_cancelling_stops_the_candidates(decoder):
    started, seen = threading.Event(), []

    def watch(progress):
        seen.append(progress.tokens)
        started.set()

    (pending,) = decoder.submit(["hello"], sampling=long(max_new_tokens=400), on_progress=watch)
    assert started.wait(60)
    pending.cancel()
    with pytest.raises(GenerationCancelledError):
        pending.result()
    assert max(seen) < 400
    assert decoder.engine.rows == 0
    assert len(decoder.decode("hello").candidates) == 4


def test_a_cancelled_task_cancels_the_request(decoder):
    async def leave():
        task = asyncio.create_task(decoder.adecode("hello", sampling=long(max_new_tokens=400)))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    assert len(decoder.decode("hello").candidates) == 4


def test_a_timeout_ends_a_request(decoder):
    with pytest.raises(GenerationTimeoutError):
        decoder.decode("hello", sampling=long(max_new_tokens=400), timeout=0.05)


def test_a_verifier_walks_the_ranking(decoder):
    order = decoder.decode("hello").ranking
    texts = [decoder.decode("hello").candidates[i].text for i in order]
    selection = decoder.decode("hello", verifier=AcceptingVerifier(texts[2]))
    assert selection.winner == order[2]
    assert selection.verified is True


def test_waves_give_the_same_candidates(decoder):
    waves = decoder.decode("hello", sampling=SAMPLING.model_copy(update={"wave": 2}))
    assert [c.text for c in waves.candidates] == [c.text for c in decoder.decode("hello").candidates]


def test_prompts_that_cannot_work_are_refused(decoder):
    with pytest.raises(PromptError, match="empty"):
        decoder.decode("")
    with pytest.raises(PromptError, match="max_new_tokens to at most"):
        decoder.decode("hello", sampling=SAMPLING.model_copy(update={"max_new_tokens": 510}))


def test_more_candidates_than_rows_wait_for_one_another(vllm):
    groups = [p.outcome().group for p in vllm.submit(["a", "b", "c", "d", "e", "f", "g", "h"])]
    assert all(len(group) == 4 for group in groups)


def test_options_that_vllm_does_not_have_are_refused_by_name(vllm):
    sampling = SamplingConfig(n=2, generation_options={"typical_p": 0.9}, max_new_tokens=8)
    with pytest.raises(ConfigurationError, match="'typical_p' is one of transformers"):
        vllm.decode("hello", sampling=sampling)

    class Mine:
        pass

    with pytest.raises(ConfigurationError, match="Mine is a logits processor of transformers"):
        vllm.decode("hello", logits_processors=lambda: [Mine()])
