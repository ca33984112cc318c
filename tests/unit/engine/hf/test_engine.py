"""The loop: what it generates, when rows leave, and that requests do not disturb one another."""

import math

import numpy as np
import pytest
import torch
from transformers import LogitsProcessor

from nad_agents import testing
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.exceptions import ConfigurationError, GenerationError, PromptError, UnsupportedModelError
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.types import SamplingConfig
from tests.family_checks import assert_greedy_is_generate
from tests.generations import ids, run, seeded
from tests.tiny_models import EOS, byte_tokenizer, make_model, tiny_model

FREE = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}


def tokens(group):
    return [r.token_ids.tolist() for r in group.rollouts]


def test_greedy_with_one_candidate_is_the_librarys_generate():
    assert_greedy_is_generate("llama")


@pytest.mark.parametrize(
    "option", [{"repetition_penalty": 1.7}, {"no_repeat_ngram_size": 2}, {"suppress_tokens": [7, 9]}]
)
def test_generation_options_of_the_library_are_kept(option):
    model, prompt = tiny_model(), ids("abcabc")
    mine = (
        {"repetition_penalty": option["repetition_penalty"]}
        if "repetition_penalty" in option
        else {"generation_options": option}
    )
    (group,) = run(
        HFEngine(model, byte_tokenizer()),
        seeded(prompt, SamplingConfig(n=1, temperature=0, max_new_tokens=24, **mine)),
    )
    with torch.no_grad():
        expected = model.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False, **option)
        plain = model.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False)
    assert tokens(group) == expected[:, len(prompt) :].tolist()
    assert option.keys() == {"suppress_tokens"} or not torch.equal(expected, plain)


@pytest.mark.parametrize(
    ("restriction", "most"),
    [({"top_k": 1}, 1), ({"top_k": 3}, 3), ({"top_p": 1e-6}, 1), ({"min_p": 1.0}, 1)],
)
def test_sampling_is_restricted_as_asked(restriction, most):
    sampling = SamplingConfig(n=64, max_new_tokens=1, **{**FREE, **restriction})
    (group,) = run(HFEngine(tiny_model(), byte_tokenizer()), seeded(ids("x"), sampling, 4))
    assert 1 <= len({t for [t] in tokens(group)}) <= most


def test_draws_follow_the_models_distribution():
    model, prompt, n = make_model("llama", seed=3), ids("hello"), 4000
    with torch.no_grad():
        expected = (model(torch.tensor([prompt])).logits[0, -1] / 1.3).softmax(-1).numpy()
    sampling = SamplingConfig(n=n, max_new_tokens=1, temperature=1.3, top_k=0, top_p=1.0)
    (group,) = run(HFEngine(model, byte_tokenizer()), seeded(prompt, sampling, 1))
    counts = np.bincount([t for [t] in tokens(group)], minlength=len(expected))
    likely = expected * n >= 5
    chi2 = ((counts - n * expected)[likely] ** 2 / (n * expected)[likely]).sum()
    freedom = int(likely.sum())
    assert freedom > 10
    assert chi2 < freedom + 4 * math.sqrt(2 * freedom)


def test_the_same_seed_gives_the_same_and_another_seed_does_not():
    engine, sampling = HFEngine(tiny_model(), byte_tokenizer()), SamplingConfig(n=4, max_new_tokens=20, **FREE)
    (a,) = run(engine, seeded(ids("x"), sampling, 7))
    (b,) = run(engine, seeded(ids("x"), sampling, 7))
    (c,) = run(engine, seeded(ids("x"), sampling, 8))
    assert tokens(a) == tokens(b) != tokens(c)


def test_the_global_random_state_is_neither_read_nor_changed():
    engine, sampling = HFEngine(tiny_model(), byte_tokenizer()), SamplingConfig(n=3, max_new_tokens=10, **FREE)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    (a,) = run(engine, seeded(ids("x"), sampling, 7))
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    (b,) = run(engine, seeded(ids("x"), sampling, 7))
    assert tokens(a) == tokens(b)


def test_a_candidate_does_not_depend_on_how_many_others_there_are():
    engine = HFEngine(tiny_model(), byte_tokenizer())
    few, many = (run(engine, seeded(ids("x"), SamplingConfig(n=n, max_new_tokens=24, **FREE), 7))[0] for n in (2, 6))
    assert tokens(few) == tokens(many)[:2]


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2", "falcon", "opt"])
def test_prompts_of_different_length_share_a_batch_without_changing_one_another(family):
    engine = HFEngine(tiny_model(family), byte_tokenizer())
    recording = RecordingConfig(top_k_neurons=8)
    requests = [
        seeded(
            ids("a rather long prompt, longer than the window of sixteen"),
            SamplingConfig(n=2, max_new_tokens=25, **FREE),
            1,
            recording,
        ),
        seeded(
            ids("b"), SamplingConfig(n=3, max_new_tokens=20, **FREE), 2, RecordingConfig("attribution", 5, 3, (1, 3))
        ),
        seeded(ids("short"), SamplingConfig(n=1, temperature=0, max_new_tokens=17), 3),
    ]
    alone = [run(engine, request)[0] for request in requests]
    together = run(engine, *requests, chunk=7)
    for a, b in zip(alone, together, strict=True):
        assert tokens(a) == tokens(b)
        for x, y in zip(a.rollouts, b.rollouts, strict=True):
            assert np.count_nonzero(x.neurons != y.neurons) <= 0.01 * x.neurons.size
            np.testing.assert_allclose(x.logprobs, y.logprobs, atol=1e-4)


def test_a_request_may_join_while_another_runs():
    engine = HFEngine(tiny_model(), byte_tokenizer())
    first_request = seeded(ids("first"), SamplingConfig(n=2, max_new_tokens=30, **FREE), 1)
    second_request = seeded(ids("the second one"), SamplingConfig(n=2, max_new_tokens=30, **FREE), 2)
    alone = [run(engine, r)[0] for r in (first_request, second_request)]
    first = engine.start(first_request)
    engine.step(10)
    second = engine.start(second_request)
    while first.live or second.live:
        engine.step(10)
    assert [tokens(g.group()) for g in (first, second)] == [tokens(g) for g in alone]


def test_finished_rows_leave_the_batch_and_keep_what_they_produced():
    engine = HFEngine(make_model("llama", seed=5), byte_tokenizer())
    sampling = SamplingConfig(n=40, max_new_tokens=64, **FREE)
    generation = engine.start(seeded(ids("x"), sampling, 3, RecordingConfig(top_k_neurons=6)))
    rows = [engine.rows]
    while generation.live:
        engine.step(16)
        rows.append(engine.rows)
    group = generation.group()
    assert rows[0] == 40
    assert any(0 < r < 40 for r in rows)
    early = [r for r in group.rollouts if r.finish_reason == "stop"]
    assert early
    for rollout in group.rollouts:
        assert len(rollout.neurons) == len(rollout) == len(rollout.logprobs)
        ended = rollout.token_ids[-1] == EOS
        assert ended == (rollout.finish_reason == "stop")
        assert EOS not in rollout.token_ids[:-1]


def test_dropped_candidates_leave_and_the_others_go_on_as_before():
    engine = HFEngine(tiny_model(), byte_tokenizer())
    request = seeded(ids("x"), SamplingConfig(n=4, max_new_tokens=40, **FREE), 9)
    (full,) = run(engine, request)
    generation = engine.start(request)
    engine.step(8)
    engine.drop(generation, {0, 1, 3})
    assert engine.rows == 1
    while generation.live:
        engine.step(8)
    group = generation.group()
    assert tokens(group)[2] == tokens(full)[2]
    assert [r.finish_reason for r in group.rollouts][:2] == ["pruned", "pruned"]
    assert tokens(group)[0] == tokens(full)[0][:8]


def test_a_stop_string_ends_the_candidate_and_is_cut():
    engine = HFEngine(tiny_model(), byte_tokenizer())
    sampling = {"n": 6, "max_new_tokens": 60, **FREE}
    (free,) = run(engine, seeded(ids("x"), SamplingConfig(**sampling), 9))
    text = next(r.text for r in free.rollouts if any(c.isascii() and c.isprintable() for c in r.text[2:]))
    stop = next(c for c in text[2:] if c.isascii() and c.isprintable())
    (cut,) = run(engine, seeded(ids("x"), SamplingConfig(**sampling, stop=stop), 9))
    for before, after in zip(free.rollouts, cut.rollouts, strict=True):
        assert stop not in after.text
        assert before.text.startswith(after.text)
        if stop in before.text:
            assert after.finish_reason == "stop"
            assert len(after) < len(before) or before.text.endswith(stop)


def test_the_vocabulary_is_read_for_a_stop_string_once():
    tokenizer, reads = testing.byte_tokenizer(), []
    read = tokenizer.get_vocab
    tokenizer.get_vocab = lambda: reads.append(1) or read()
    engine = HFEngine(tiny_model(), tokenizer)

    def answer(stop):
        sampling = SamplingConfig(n=2, max_new_tokens=6, **FREE, stop=stop)
        before = len(reads)
        (group,) = run(engine, seeded(ids("x"), sampling, 9))
        return [r.text for r in group.rollouts], len(reads) - before

    first, for_first = answer("a")
    assert for_first > 0
    assert answer("a") == (first, 0)
    assert answer("b")[1] > 0
    for stop in "cdefghijk":
        answer(stop)
    again, for_again = answer("a")
    assert again == first
    assert for_again > 0


def test_a_stop_string_that_only_the_prompt_completes_does_not_stop():
    engine = HFEngine(tiny_model(), byte_tokenizer())

    class ThenB(LogitsProcessor):
        def __call__(self, input_ids, scores):
            forced = torch.full_like(scores, -math.inf)
            forced[:, ids("b")[0]] = 0
            return forced

    sampling = SamplingConfig(n=1, temperature=0, max_new_tokens=4, stop="ab")
    (group,) = run(engine, seeded(ids("a"), sampling, logits_processors=[ThenB()]))
    assert group.rollouts[0].text == "bbbb"


def test_signals_are_those_of_the_unmodified_distribution():
    model, prompt = tiny_model(), ids("hello")
    sampling = SamplingConfig(n=1, max_new_tokens=6, temperature=0.5, top_k=5, repetition_penalty=1.5)
    (group,) = run(HFEngine(model, byte_tokenizer()), seeded(prompt, sampling, 3))
    rollout = group.rollouts[0]
    with torch.no_grad():
        logits = model(torch.tensor([prompt + rollout.token_ids.tolist()])).logits[0, len(prompt) - 1 : -1]
    logp = logits.double().log_softmax(-1)
    size = logits.shape[-1]
    expected = {
        "logprobs": logp.gather(-1, torch.tensor(rollout.token_ids)[:, None])[:, 0],
        "entropies": -(logp.exp() * logp).sum(-1),
        "self_certainties": -(logp.mean(-1) + math.log(size)),
        "confidences": -logp.topk(20).values.mean(-1),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(rollout, name), value.numpy(), atol=2e-4, err_msg=name)


def test_logits_that_are_not_numbers_fail_that_request_with_advice():
    model = make_model("llama", seed=1)
    model.lm_head.weight.data[3] = math.nan
    engine = HFEngine(model, byte_tokenizer())
    generation = engine.start(seeded(ids("x"), SamplingConfig(n=2, max_new_tokens=8, **FREE)))
    engine.step(8)
    assert isinstance(generation.error, GenerationError)
    assert "float32" in str(generation.error)


def test_a_failing_processor_ends_its_own_request_only():
    class Broken(LogitsProcessor):
        def __call__(self, input_ids, scores):
            raise ZeroDivisionError("grammar")

    engine = HFEngine(tiny_model(), byte_tokenizer())
    good_request = seeded(ids("x"), SamplingConfig(n=2, max_new_tokens=10, **FREE), 1)
    (alone,) = run(engine, good_request)
    good = engine.start(good_request)
    bad = engine.start(seeded(ids("y"), SamplingConfig(n=2, max_new_tokens=10), 2, logits_processors=[Broken()]))
    engine.step(10)
    assert isinstance(bad.error, ZeroDivisionError)
    engine.release(bad)
    while good.live:
        engine.step(10)
    assert good.error is None
    assert tokens(good.group()) == tokens(alone)


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ([], {}, "empty"),
        ([5] * 600, {}, "512"),
        ([5] * 500, {"max_new_tokens": 20}, "at most 12"),
    ],
)
def test_prompts_that_do_not_fit_are_refused_before_the_model_runs(prompt, options, message):
    engine = HFEngine(tiny_model(), byte_tokenizer())
    with pytest.raises(PromptError, match=message):
        engine.start(seeded(prompt, SamplingConfig(n=2, **options)))


def test_an_unknown_generation_option_is_named():
    engine = HFEngine(tiny_model(), byte_tokenizer())
    request = seeded([5], SamplingConfig(n=2, generation_options={"top_q": 1}))
    with pytest.raises(ConfigurationError, match="top_q"):
        engine.start(request)
    assert engine.rows == 0


def test_attribution_needs_a_readable_unembedding():
    model = make_model("opt", word_embed_proj_dim=16)
    engine = HFEngine(model, byte_tokenizer())
    with pytest.raises(UnsupportedModelError, match="activation"):
        engine.check(seeded([5], SamplingConfig(n=2), 0, RecordingConfig("attribution")))
