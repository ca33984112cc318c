"""What the workers of vLLM record is what a teacher-forced forward pass of transformers computes."""

import pytest

from nad_agents import ConfigurationError, NADConfig
from tests.vllm.conftest import CONFIG, SAMPLING
from tests.vllm.forced_pass import assert_recorded_as_forced, prompt_ids


def test_sets_and_signals_are_those_of_a_forced_forward_pass(vllm, hf):
    group = vllm.sample("hello")
    assert sum(len(rollout) for rollout in group.rollouts) > 40
    assert_recorded_as_forced(hf, prompt_ids(hf, "hello"), group)


def test_so_are_they_with_some_layers_and_many_prompts_at_a_time(vllm, hf):
    config = NADConfig(**CONFIG, layers=(1, 3))
    texts = ["one", "a longer prompt than that", "three " * 30]
    pending = vllm.submit(texts, config=config)
    for text, one in zip(texts, pending, strict=True):
        group = one.outcome().group
        assert (group.layout.n_layers, group.layout.first_layer) == (2, 1)
        assert_recorded_as_forced(hf, prompt_ids(hf, text), group, slice(1, 3))


def test_so_are_they_when_the_prompt_is_in_the_cache(vllm, hf):
    text = "a prompt of several blocks of the cache " * 4
    vllm.sample(text)
    selection = vllm.decode(text)
    assert selection.usage.cached_tokens > 0
    assert_recorded_as_forced(hf, prompt_ids(hf, text), vllm.sample(text))


def test_so_are_they_when_some_requests_record_and_others_do_not(vllm, hf):
    silent = vllm.submit(["quiet"] * 2, config=NADConfig(selector="mean_logprob", record=False))
    group = vllm.sample("loud")
    for one in silent:
        assert all(rollout.neurons.shape[1] == 0 for rollout in one.outcome().group.rollouts)
    assert_recorded_as_forced(hf, prompt_ids(hf, "loud"), group)


def test_workers_keep_nothing_of_requests_that_have_ended(vllm):
    vllm.decode("hello")
    unknown = vllm.engine._llm.collective_rpc("nad_take", args=([f"nad-{i}" for i in range(4)],))
    assert unknown == [{}]


def test_attribution_is_refused_by_name(vllm):
    with pytest.raises(ConfigurationError, match="score='attribution' needs the model's weights"):
        vllm.decode("hello", config=NADConfig(**CONFIG, score="attribution"))


def test_a_range_of_layers_that_the_model_does_not_have_is_refused(decoder):
    with pytest.raises(ConfigurationError, match=r"does not fit a model (of|with) 3 layers"):
        decoder.decode("hello", config=NADConfig(**CONFIG, layers=(2, 9)))


def test_greedy_answers_are_those_of_transformers(vllm, hf):
    greedy = SAMPLING.model_copy(update={"n": 1, "temperature": 0.0})
    config = NADConfig(selector="first", **CONFIG)
    mine, theirs = (one.sample("hello", sampling=greedy, config=config).rollouts[0] for one in (vllm, hf))
    assert mine.token_ids.tolist() == theirs.token_ids.tolist()
    assert [set(row) for row in mine.neurons.tolist()] == [set(row) for row in theirs.neurons.tolist()]
    assert (mine.text, mine.finish_reason) == (theirs.text, theirs.finish_reason)
