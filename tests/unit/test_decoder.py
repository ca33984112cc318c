"""From a prompt to a selection: ranking, pruning, verification, streaming, and errors before expensive work."""

import asyncio
import inspect
import re
import threading

import numpy as np
import pytest

from nad_agents import (
    ConfigurationError,
    Finished,
    GenerationCancelledError,
    NADConfig,
    NeuronAgreementDecoder,
    NoCandidatePassedError,
    Progress,
    PromptError,
    SamplingConfig,
    TextDelta,
    UnknownSelectorError,
    VerificationConfig,
    WinnerChosen,
)
from nad_agents.testing import AcceptingVerifier
from tests.tiny_models import make_model
from tests.unit.decoders import NEURONS, SAMPLING, decoder, loaded
from tests.unit.event_loops import check_that_cancelling_ends, held_in_step, wait_until_idle

KNN = NADConfig(selector="knn")


def test_the_winner_is_the_best_ranked_and_carries_the_evidence():
    selection = decoder().decode("hello")
    assert sorted(selection.ranking) == list(range(5))
    assert selection.winner == selection.ranking[0]
    assert selection.text == selection.best.text == selection.candidates[selection.winner].text
    assert [selection.candidates[i].rank for i in selection.ranking] == list(range(5))
    scores = [selection.candidates[i].score for i in selection.ranking]
    assert scores == sorted(scores, reverse=True)
    matrix = np.array(selection.similarity_matrix)
    assert matrix.shape == (5, 5)
    np.testing.assert_allclose(matrix, matrix.T)
    for i, candidate in enumerate(selection.candidates):
        assert candidate.agreement == pytest.approx((matrix[i].sum() - 1) / 4)
        assert 12 <= candidate.activated_neurons <= 3 * 48
    assert selection.usage.generated_tokens == sum(c.tokens for c in selection.candidates)
    assert selection.usage.saved_tokens == 0
    assert selection.seed == 3
    assert selection.model == "tiny"
    assert selection.verified is None
    assert selection.timings.decode > 0


def test_the_selection_is_the_selectors_own_over_the_same_rollouts():
    nad = decoder()
    by_name = nad.decode("hello", config=NADConfig(selector="shortest", **NEURONS))
    expected = nad.decode(
        "hello", config=NADConfig(selector=lambda group: [-len(r) for r in group.rollouts], **NEURONS)
    )
    assert [c.text for c in by_name.candidates] == [c.text for c in expected.candidates]
    assert expected.best.tokens == min(c.tokens for c in expected.candidates)


def test_the_same_seed_repeats_everything_and_a_fresh_seed_is_reported():
    nad = decoder()
    a, b = nad.decode("hello"), nad.decode("hello")
    assert a.model_dump(exclude={"timings"}) == b.model_dump(exclude={"timings"})
    fresh = SAMPLING.model_copy(update={"seed": None})
    first, second = nad.decode("hello", sampling=fresh), nad.decode("hello", sampling=fresh)
    assert first.seed != second.seed
    again = nad.decode("hello", sampling=SAMPLING.model_copy(update={"seed": first.seed}))
    assert again.ranking == first.ranking
    assert again.text == first.text


def test_text_is_wrapped_by_the_chat_template_unless_raw():
    nad = decoder()
    chat = nad.decode("hi")
    messages = nad.decode([{"role": "user", "content": "hi"}])
    raw = nad.decode("hi", raw=True)
    assert chat.text == messages.text
    assert chat.usage.prompt_tokens > raw.usage.prompt_tokens == 2
    base = decoder(loaded=loaded(chat=False))
    assert base.decode("hi").usage.prompt_tokens == 2


def test_several_prompts_in_one_call():
    nad = decoder()
    selections = nad.decode_many(["one", "another prompt", "x"])
    assert [s.seed for s in selections] == [3, 3, 3]
    assert nad.decode("one").text == selections[0].text
    part = nad.submit(["another prompt", "x"], first_prompt_index=1)
    assert [pending.result().text for pending in part] == [s.text for s in selections[1:]]


def test_every_prompt_of_every_seed_has_streams_of_its_own():
    nad = decoder()
    texts = [
        candidate.text
        for seed in (3, 4)
        for selection in nad.decode_many(["one"] * 3, sampling=SAMPLING.model_copy(update={"seed": seed}))
        for candidate in selection.candidates
    ]
    assert len(set(texts)) == len(texts) == 30


class TestEarlyStopping:
    config = NADConfig(pruning="first_chunk", **NEURONS)

    def test_only_the_winner_goes_on_and_the_saving_is_told(self):
        nad = decoder()
        full, early = nad.decode("hello"), nad.decode("hello", config=self.config)
        pruned = [c for c in early.candidates if c.finish_reason == "pruned"]
        assert pruned
        assert all(c.tokens == 16 for c in pruned)
        assert early.best.text == full.candidates[early.winner].text
        assert early.usage.saved_tokens == sum(max(0, early.best.tokens - c.tokens) for c in pruned)
        assert early.usage.generated_tokens < full.usage.generated_tokens

    def test_the_choice_is_that_of_the_first_chunk(self):
        nad = decoder()
        early = nad.decode("hello", config=self.config)
        offline = nad.decode("hello", config=NADConfig(compare_chunks=1, **NEURONS))
        assert early.ranking == offline.ranking
        assert [c.score for c in early.candidates] == [c.score for c in offline.candidates]
        np.testing.assert_allclose(early.similarity_matrix, offline.similarity_matrix)

    def test_keep_leaves_several_who_are_ranked_in_the_end(self):
        nad = decoder()
        early = nad.decode("hello", config=NADConfig(pruning="first_chunk", keep=3, **NEURONS))
        whole = [c.index for c in early.candidates if c.finish_reason != "pruned"]
        assert len(whole) >= 3 or all(c.tokens < 16 for c in early.candidates)
        assert set(early.ranking[:3]) <= set(whole)
        assert sorted(early.ranking) == list(range(5))

    def test_keeping_all_is_no_pruning(self):
        nad = decoder()
        early = nad.decode("hello", config=NADConfig(pruning="first_chunk", keep=5, **NEURONS))
        assert early.model_dump(exclude={"timings"}) == nad.decode("hello").model_dump(exclude={"timings"})

    def test_candidates_shorter_than_a_chunk_need_no_pruning(self):
        short = SAMPLING.model_copy(update={"max_new_tokens": 5})
        early = decoder().decode("hello", sampling=short, config=self.config)
        assert {c.finish_reason for c in early.candidates} <= {"stop", "length"}


class TestVerifier:
    def test_the_next_in_rank_wins_when_the_first_fails(self):
        plain = decoder().decode("hello")
        second = plain.candidates[plain.ranking[1]].text
        verifier = AcceptingVerifier(second, feedback="not that one")
        selection = decoder(verifier=verifier, verification=VerificationConfig(parallel=1)).decode("hello")
        assert selection.winner == plain.ranking[1]
        assert selection.ranking == plain.ranking
        assert selection.verified is True
        assert selection.candidates[plain.ranking[0]].verdict == {"passed": False, "feedback": "not that one"}
        assert selection.best.verdict["passed"] is True
        assert {call.prompt for call in verifier.calls} == {"hello"}

    def test_none_passes(self):
        best = decoder(verifier=AcceptingVerifier()).decode("hello")
        assert best.verified is False
        assert best.winner == best.ranking[0]
        strict = decoder(verifier=AcceptingVerifier(), verification=VerificationConfig(on_failure="error"))
        with pytest.raises(NoCandidatePassedError):
            strict.decode("hello")

    def test_a_pruned_candidate_is_not_checked(self):
        verifier = AcceptingVerifier()
        config = NADConfig(pruning="first_chunk", **NEURONS)
        selection = decoder(verifier=verifier, config=config).decode("hello")
        whole = {c.text for c in selection.candidates if c.finish_reason != "pruned"}
        assert {call.answer for call in verifier.calls} <= whole

    def test_among_those_that_pass_only_they_are_compared(self):
        everything = decoder().decode("hello")
        texts = [candidate.text for candidate in everything.candidates]
        right = texts[2:4]

        def nearest(group):
            # those that pass rank one way beside a wrong one, and the other way alone
            alone = all(rollout.text in right for rollout in group.rollouts)
            return [
                (rollout.text == right[1]) - 2.0 * (alone and rollout.text == right[1]) for rollout in group.rollouts
            ]

        verifier = AcceptingVerifier(*right)
        options = {"config": NADConfig(selector=nearest, **NEURONS), "verifier": verifier}
        first = decoder(verification=VerificationConfig(parallel=1), **options).decode("hello")
        assert first.text == right[1]
        chosen = decoder(verification=VerificationConfig(check_all=True), **options).decode("hello")
        assert (chosen.text, chosen.verified) == (right[0], True)
        assert chosen.ranking[:2] == (2, 3)
        assert chosen.details["passed"] == [2, 3]
        assert sum(candidate.verdict is not None for candidate in chosen.candidates) == len(texts)

    def test_none_is_no_verifier_and_left_out_is_the_decoders(self):
        verifier, other = AcceptingVerifier(), AcceptingVerifier()
        nad = decoder(verifier=verifier)
        assert nad.decode("hello", verifier=None).verified is None
        assert (nad.decode("hello", verifier=other).verified, verifier.calls) == (False, [])
        assert (nad.decode("hello").verified, len(verifier.calls) > 0) == (False, True)


def test_every_way_to_call_spells_out_the_keywords_of_submit():
    submit = inspect.signature(NeuronAgreementDecoder.submit).parameters
    shared = set(submit) - {"self", "prompts", "streaming", "watch", "first_prompt_index"}
    for name in ("decode", "decode_many", "sample", "adecode", "stream", "astream"):
        mine = inspect.signature(getattr(NeuronAgreementDecoder, name)).parameters
        own = {"verifier", "verification"} if name == "sample" else set()
        assert set(mine) - {"self", "prompt", "prompts", "watch"} == shared - own
        assert ("watch" in mine) == name.endswith("stream")
        keywords = set(mine) & set(submit) - {"self"}
        assert {key: mine[key] for key in keywords} == {key: submit[key] for key in keywords}


class TestStream:
    def collect(self, config, **options):
        nad = decoder(config=config, **options)
        return list(nad.stream("hello")), nad.decode("hello")

    def test_text_comes_after_the_selection(self):
        events, selection = self.collect(NADConfig(**NEURONS))
        kinds = [type(e) for e in events]
        chosen = kinds.index(WinnerChosen)
        assert set(kinds[:chosen]) == {Progress}
        assert kinds[chosen + 1 :] == [TextDelta, Finished]
        assert events[-1].selection.text == selection.text

    def test_with_early_stopping_the_winner_streams_from_the_first_chunk_on(self):
        events, selection = self.collect(NADConfig(pruning="first_chunk", **NEURONS))
        at = next(i for i, e in enumerate(events) if isinstance(e, WinnerChosen))
        grown = [e.tokens for e in events[:at] if isinstance(e, Progress)]
        assert max(grown) <= 16
        deltas = [e.text for e in events if isinstance(e, TextDelta)]
        assert len(deltas) > 5
        assert "".join(deltas) == selection.text
        assert events[at].winner == selection.winner == events[-1].selection.winner

    def test_a_stop_string_never_leaks_not_even_its_beginning(self):
        long = SAMPLING.model_copy(update={"max_new_tokens": 48})
        free = decoder(config=NADConfig(pruning="first_chunk", **NEURONS), sampling=long).decode("hello").text
        position = next(
            i for i in range(18, len(free) - 1) if free[i : i + 2].isascii() and free[i : i + 2].isprintable()
        )
        sampling = long.model_copy(update={"stop": (free[position : position + 2],)})
        nad = decoder(config=NADConfig(pruning="first_chunk", **NEURONS), sampling=sampling)
        events = list(nad.stream("hello"))
        text = events[-1].selection.text
        sent = ""
        for event in events:
            if isinstance(event, TextDelta):
                sent += event.text
                assert text.startswith(sent)
        assert sent == text
        assert sampling.stop[0] not in text

    def test_leaving_early_stops_the_generation(self):
        nad = decoder(sampling=SAMPLING.model_copy(update={"max_new_tokens": 400}))
        with held_in_step(nad, 2) as begun:
            stream = nad.stream("hello")
            next(stream)
            stream.close()
        wait_until_idle(nad, begun, 2)


class TestAsync:
    async def test_adecode_and_astream_give_what_the_blocking_ones_give(self):
        nad = decoder(config=NADConfig(pruning="first_chunk", **NEURONS))
        expected = nad.decode("hello")
        assert (await nad.adecode("hello")).text == expected.text
        events = [event async for event in nad.astream("hello")]
        assert "".join(e.text for e in events if isinstance(e, TextDelta)) == expected.text

    async def test_cancelling_frees_the_rows_and_the_next_call_works(self):
        nad = decoder(sampling=SAMPLING.model_copy(update={"max_new_tokens": 450}))
        await check_that_cancelling_ends(nad, nad.adecode("hello"))
        assert (await nad.adecode("hi", sampling=SAMPLING)).text

    async def test_concurrent_calls_share_the_batch(self):
        nad = decoder()
        seen = []
        results = await asyncio.gather(
            *(nad.adecode("hello", on_progress=lambda _: seen.append(nad.engine.rows)) for _ in range(3))
        )
        assert len({r.text for r in results}) == 1
        assert max(seen) > 5


class TestWaves:
    def test_they_give_the_candidates_that_all_together_would_be(self):
        whole, parts = (decoder(sampling=SamplingConfig(n=5, max_new_tokens=12, seed=3, wave=w)) for w in (None, 2))
        seen = []
        one, other = whole.decode("hello"), parts.decode("hello", on_progress=seen.append)
        assert [c.text for c in other.candidates] == [c.text for c in one.candidates]
        assert [c.index for c in other.candidates] == [0, 1, 2, 3, 4]
        assert other.ranking == one.ranking
        assert other.usage == one.usage
        assert max(len(event.live) for event in seen) == 2
        assert seen[-1].generated == one.usage.generated_tokens

    def test_candidates_of_later_waves_have_yet_to_end(self):
        counts = []
        sampling = SamplingConfig(n=5, max_new_tokens=4, seed=3, wave=2, generation_options={"min_new_tokens": 4})
        decoder().sample("hello", sampling=sampling, on_rows_freed=counts.append)
        assert counts == [3, 1, 0]

    async def test_every_wave_has_processors_of_its_own_and_async_callers_get_all(self):
        made = []

        def processors():
            made.append(len(made))
            return []

        sampling = SamplingConfig(n=3, max_new_tokens=4, seed=1, wave=1)
        selection = await decoder().adecode("hi", sampling=sampling, logits_processors=processors)
        assert (len(selection.candidates), made) == (3, [0, 1, 2])

    def test_cancelling_ends_the_wave_that_runs_and_those_to_come(self):
        running = threading.Event()
        pending = decoder().submit(
            ["hi"],
            sampling=SamplingConfig(n=64, max_new_tokens=100, wave=1),
            on_progress=lambda event: running.set() if event.live != (0,) else None,
        )[0]
        assert running.wait(20)
        pending.cancel()
        with pytest.raises(GenerationCancelledError):
            pending.result()

    @pytest.mark.parametrize("how", [{"config": NADConfig(pruning="first_chunk")}, {"watch": True}])
    def test_candidates_that_do_not_grow_together_are_not_compared_while_they_grow(self, how):
        with pytest.raises(ConfigurationError, match="wave"):
            decoder().submit(["hi"], sampling=SamplingConfig(n=4, wave=2), **how)

    def test_a_request_that_does_not_fit_is_told_of_them_and_fits_then(self, monkeypatch):
        monkeypatch.setattr("nad_agents.engine.hf.request_checks.available_device_memory", lambda _: 40 * 2**20)
        with pytest.raises(ConfigurationError, match=r"wave=\d+") as caught:
            decoder().submit(["hi"], sampling=SamplingConfig(n=5000, max_new_tokens=8))
        wave = int(re.search(r"wave=(\d+)", str(caught.value))[1])
        pending = decoder().submit(["hi"], sampling=SamplingConfig(n=5000, max_new_tokens=8, wave=wave))[0]
        pending.cancel()


def test_a_caller_hears_how_many_still_generate_whenever_some_have_ended():
    nad, counts = decoder(config=NADConfig(**NEURONS, pruning="halving", shrink=2)), []
    group = nad.sample("hello", on_rows_freed=counts.append)
    assert counts == sorted(set(counts), reverse=True)
    assert {3, 2, 1} & set(counts)
    assert counts[0] < len(group)
    assert counts[-1] == 0


def test_several_threads_share_one_decoder():
    nad, results = decoder(), {}
    expected = {p: nad.decode(p).text for p in ("a", "bb", "ccc", "dddd")}

    def call(prompt):
        results[prompt] = nad.decode(prompt).text

    threads = [threading.Thread(target=call, args=(p,)) for p in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == expected


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ({"prompt": ""}, PromptError, "empty"),
        ({"prompt": "  \n"}, PromptError, "empty"),
        ({"prompt": []}, PromptError, "empty"),
        ({"prompt": "x" * 600}, PromptError, "shorten"),
        ({"prompt": "x", "sampling": SamplingConfig(n=1), "config": KNN}, ConfigurationError, "n=1"),
        ({"prompt": "x", "config": NADConfig(selector="knm")}, UnknownSelectorError, "'knn'"),
        ({"prompt": "x", "config": KNN.model_copy(update={"record": False})}, ConfigurationError, "record"),
        ({"prompt": "x", "config": NADConfig(layers=(0, 9))}, ConfigurationError, "3 layers"),
        ({"prompt": "x", "config": NADConfig(selector_options={"kk": 3})}, ConfigurationError, "kk"),
        ({"prompt": [{"role": "user"}], "raw": True}, PromptError, "raw"),
    ],
)
def test_bad_input_is_one_line_before_the_model_runs(call, error, message):
    model = make_model("llama")
    nad = decoder(loaded=loaded(model))
    ran = []
    model.register_forward_pre_hook(lambda *_: ran.append(1))
    with pytest.raises(error, match=message) as caught:
        nad.decode(**call)
    assert "\n" not in str(caught.value)
    assert ran == []


def test_messages_without_a_chat_template_are_refused():
    with pytest.raises(PromptError, match="chat template"):
        decoder(loaded=loaded(chat=False)).decode([{"role": "user", "content": "x"}])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n=0"),
        ({"n": 4, "temperature": 0}, "temperature 0"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"stop": ["a", ""]}, "stop"),
        ({"temprature": 1}, "'temperature'"),
        ({"top_p": 0.0}, "top_p"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_wrong_sampling_parameter_is_one_line_with_its_value(options, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        SamplingConfig(**options)
    assert "\n" not in str(caught.value)


def test_a_wrong_configuration_is_refused_before_a_model_is_loaded():
    with pytest.raises(UnknownSelectorError):
        NeuronAgreementDecoder("/no/such/model", config=NADConfig(selector="nope"))


def test_the_error_of_a_failing_model_reaches_the_caller_of_a_stream():
    model = make_model("llama")
    nad = decoder(loaded=loaded(model))
    model.model.layers[0].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(Exception, match="ZeroDivisionError"):
        list(nad.stream("hello"))
