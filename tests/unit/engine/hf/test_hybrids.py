"""Layers that are not all alike: rows are expanded, dropped and merged as those of plain attention."""

import logging

import pytest
import torch
from transformers.cache_utils import DynamicIndexedLayer

from nad_agents.engine.hf.engine import HFEngine
from nad_agents.types import SamplingConfig
from tests.tiny_models import byte_tokenizer, make_model
from tests.unit.engine.hf.generations import ids, seeded, teacher_forced
from tests.unit.engine.hf.hybrids import HYBRIDS, hybrid_model

PROMPTS = ["a rather long prompt, longer than the window of sixteen", "b", "short one"]
SAMPLING = SamplingConfig(n=6, max_new_tokens=25, temperature=1.0, top_k=0, top_p=1.0)


@pytest.mark.parametrize("family", HYBRIDS)
def test_rows_of_several_prompts_join_and_leave_without_changing_one_another(family):
    model = hybrid_model(family)
    engine = HFEngine(model, byte_tokenizer())
    requests = [seeded(ids(text), SAMPLING, seed) for seed, text in enumerate(PROMPTS)]
    first = engine.start(requests[0])
    engine.step(5)
    assert engine.can_join()
    second = engine.start(requests[1])
    engine.step(3)
    engine.drop(first, {1, 4})
    third = engine.start(requests[2])
    while first.live or second.live or third.live:
        engine.step(7)
    for generation, request in zip((first, second, third), requests, strict=True):
        for rollout in generation.group().rollouts:
            expected = teacher_forced(model, request.prompt_ids, rollout.token_ids.tolist())
            torch.testing.assert_close(torch.tensor(rollout.logprobs), expected, rtol=0, atol=1e-5)


def test_requests_take_turns_where_rows_of_several_prompts_cannot_be_held_and_that_is_said(caplog):
    engine = HFEngine(make_model("falcon"), byte_tokenizer())
    generation = engine.start(seeded(ids(PROMPTS[0]), SAMPLING, 1))
    assert engine.can_join()
    engine._batch.cache.layers[0] = DynamicIndexedLayer()
    with caplog.at_level(logging.INFO):
        assert not engine.can_join()
        assert not engine.can_join()
    (record,) = caplog.records
    assert "take turns" in record.message
    assert "DynamicIndexedLayer" in record.message
    engine.release(generation)
