"""A prompt read in pieces: the same keys, logits and candidates as one read whole, for every kind of cache."""

import pytest
import torch
from transformers import AutoConfig, DynamicCache

from nad_agents.engine.hf import prefill
from nad_agents.engine.hf.engine import HFEngine
from nad_agents.exceptions import GenerationError
from nad_agents.types import SamplingConfig
from tests.family_checks import PieceEngine, assert_pieces_give_what_the_whole_prompt_gives
from tests.generations import ids, run, seeded
from tests.tiny_models import byte_tokenizer, make_model, tiny_model

PROMPT, SAMPLING = PieceEngine.PROMPT, PieceEngine.SAMPLING


@pytest.mark.parametrize("family", ["llama", "gemma2", "falcon"])
def test_pieces_give_the_candidates_and_logits_of_the_whole_prompt(family, monkeypatch):
    assert_pieces_give_what_the_whole_prompt_gives(family, monkeypatch)


def test_prompts_are_read_whole_where_the_length_turns_the_keys(monkeypatch):
    monkeypatch.setattr(prefill, "PREFILL_TOKENS", 20)
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
    model = make_model("llama", rope_parameters=rope, max_position_embeddings=64)
    engine = PieceEngine(model)
    (group,) = run(engine, seeded(ids(PROMPT)[:50], SamplingConfig(n=1, temperature=0, max_new_tokens=8)))
    with torch.no_grad():
        expected = model.generate(torch.tensor([ids(PROMPT)[:50]]), max_new_tokens=8, do_sample=False)
    assert group.rollouts[0].token_ids.tolist() == expected[0, 50:].tolist()
    assert engine.read == [49]


@pytest.mark.parametrize(
    ("family", "options", "pieces"),
    [
        ("llama", {}, True),
        ("gemma2", {"sliding_window": 16}, True),
        ("lfm2", {"layer_types": ["conv", "full_attention"]}, True),
        ("jamba", {"attn_layer_period": 2, "attn_layer_offset": 1}, False),
        ("phi3", {"rope_parameters": {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}}, False),
        ("gemma3_text", {"rope_parameters": {"full_attention": {"rope_type": "dynamic", "factor": 2.0}}}, False),
    ],
)
def test_some_recurrent_layers_and_length_dependent_positions_take_no_pieces(family, options, pieces):
    config = AutoConfig.for_model(family, num_hidden_layers=2)
    for name, value in options.items():
        setattr(config, name, value)
    size = prefill.piece_size(DynamicCache(config=config), config)
    assert size == (prefill.PREFILL_TOKENS if pieces else None)


def test_a_prompt_read_in_pieces_is_kept_and_continued_from_where_it_ends(monkeypatch):
    monkeypatch.setattr(prefill, "PREFILL_TOKENS", 20)
    model = make_model("llama")
    engine, longer = PieceEngine(model, prefix_bytes=2**20), PROMPT + " heapq.merge(left, right)"
    engine.drawn()
    engine.read.clear()
    assert engine.drawn(longer) == PieceEngine(model).drawn(longer)
    added = len(ids(longer)) - len(ids(PROMPT))
    assert engine.read == [20, added - 20]


def test_the_batch_may_advance_between_the_pieces_of_a_prompt(monkeypatch):
    model = tiny_model()
    (running, joining) = (seeded(ids("first"), SAMPLING, 1), seeded(ids(PROMPT), SAMPLING, 2))
    alone = [run(HFEngine(model, byte_tokenizer()), request)[0] for request in (running, joining)]
    monkeypatch.setattr(prefill, "PREFILL_TOKENS", 20)
    engine = HFEngine(model, byte_tokenizer())
    first, reading = engine.start(running), engine.prefill(joining)
    left = []
    while reading.advance():
        left.append(reading.tokens_left)
        engine.step(3)
    second = engine.join(reading)
    while first.live or second.live:
        engine.step(8)
    assert left == [*range(len(ids(PROMPT)) - 21, 0, -20), 0]
    for generation, expected in zip((first, second), alone, strict=True):
        mine = [rollout.token_ids.tolist() for rollout in generation.group().rollouts]
        assert mine == [rollout.token_ids.tolist() for rollout in expected.rollouts]


def test_a_prompt_that_is_not_read_cannot_join():
    engine = HFEngine(tiny_model(), byte_tokenizer())
    reading = engine.prefill(seeded(ids(PROMPT), SAMPLING))
    with pytest.raises(GenerationError, match="tokens of the prompt have not been read"):
        engine.join(reading)
    assert engine.rows == 0
