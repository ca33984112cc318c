"""Layers that are not all alike: rows are expanded, dropped and merged as those of plain attention."""

import logging

import pytest
from transformers.cache_utils import DynamicIndexedLayer

from nad_agents.engine.hf.engine import HFEngine
from nad_agents.types import SamplingConfig
from tests.family_checks import assert_rows_join_and_leave
from tests.generations import ids, seeded
from tests.tiny_models import byte_tokenizer, make_model


@pytest.mark.parametrize("family", ["qwen3_5_text", "granitemoehybrid"])
def test_rows_of_several_prompts_join_and_leave_without_changing_one_another(family):
    assert_rows_join_and_leave(family)


def test_requests_take_turns_where_rows_of_several_prompts_cannot_be_held_and_that_is_said(caplog):
    engine = HFEngine(make_model("falcon"), byte_tokenizer())
    generation = engine.start(seeded(ids("hello"), SamplingConfig(n=2, max_new_tokens=2), 1))
    assert engine.can_join()
    engine._batches.current.cache.layers[0] = DynamicIndexedLayer()
    with caplog.at_level(logging.INFO):
        assert not engine.can_join()
        assert not engine.can_join()
    (record,) = caplog.records
    assert "take turns" in record.message
    assert "DynamicIndexedLayer" in record.message
    engine.release(generation)
