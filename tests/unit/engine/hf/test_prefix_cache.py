"""Prompts that begin like an earlier one: the same logits, fewer tokens read, bounded memory."""

import pytest
import torch

from nad_agents import ConfigurationError, NeuronAgreementDecoder, SamplingConfig
from nad_agents.engine.hf.engine import HFEngine
from tests.generations import ids, run, seeded
from tests.hybrid_models import hybrid_model
from tests.tiny_models import byte_tokenizer, make_model
from tests.unit.decoders import loaded

FIRST = "You are a helpful assistant. What is the capital of France?"
NEXT = FIRST + " It is Paris. And of Italy?"
SAMPLING = SamplingConfig(n=3, max_new_tokens=12)


class Counting(HFEngine):
    """Says how many tokens of prompts it read."""

    def __init__(self, model, prefix_bytes=2**20):
        super().__init__(model, byte_tokenizer(), prefix_bytes=prefix_bytes)
        self.read = []

    def _forward(self, tokens, *rest):
        if tokens.shape[0] == 1 and tokens.shape[1] > 1:
            self.read.append(tokens.shape[1])
        return super()._forward(tokens, *rest)


def answers(engine, text, seed=1):
    (group,) = run(engine, seeded(ids(text), SAMPLING, seed))
    return [rollout.token_ids.tolist() for rollout in group.rollouts]


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_the_next_turn_is_read_from_where_it_is_new_and_answered_alike(family):
    model = make_model(family)
    engine = Counting(model)
    for text in (FIRST, NEXT, NEXT, FIRST):
        assert answers(engine, text) == answers(HFEngine(model, byte_tokenizer()), text)
    added = len(ids(NEXT)) - len(ids(FIRST))
    assert engine.read == [len(ids(FIRST)) - 1, added]


def test_the_logits_after_a_known_beginning_are_those_of_the_whole_prompt():
    model = make_model("llama")
    engine = HFEngine(model, byte_tokenizer(), prefix_bytes=2**20)
    seen = []
    forward = engine._forward
    engine._forward = lambda *inputs: seen.append(forward(*inputs)) or seen[-1]
    one = SamplingConfig(n=1, max_new_tokens=1, temperature=0.0)
    for text in (FIRST, NEXT):
        run(engine, seeded(ids(text), one))
    whole = model(torch.tensor([ids(NEXT)])).logits[:, -1]
    torch.testing.assert_close(seen[-1], whole, rtol=1e-4, atol=1e-4)


def test_rows_that_grow_do_not_touch_what_is_kept():
    engine = Counting(make_model("llama"))
    before = answers(engine, FIRST)
    answers(engine, FIRST + " " * 40, seed=2)
    assert answers(engine, FIRST) == before


def test_beginnings_too_short_are_read_anew():
    engine = Counting(make_model("llama"))
    for text in ("Hello there, you.", "Hello there, me.", "Hello there, me."):
        answers(engine, text)
    assert len(engine.read) == 3


@pytest.mark.parametrize(
    ("model", "another"),
    [
        (lambda: make_model("llama"), 46),
        # a window and a state have left the tokens behind with which the other prompt begins
        (lambda: make_model("mistral", sliding_window=16), 0),
        (lambda: hybrid_model("qwen3_5_text"), 0),
        (lambda: hybrid_model("zamba2"), 0),
    ],
)
def test_what_can_be_used_again_of_a_prompt_depends_on_what_its_layers_keep(model, another):
    model = model()
    engine = Counting(model)
    other = FIRST[:46] + "of the whole of Sweden?"
    for text in (FIRST, NEXT, other, FIRST):
        assert answers(engine, text) == answers(HFEngine(model, byte_tokenizer()), text)
    added = len(ids(NEXT)) - len(ids(FIRST))
    assert engine.read == [len(ids(FIRST)) - 1, added, len(ids(other)) - 1 - another]


def test_a_state_that_several_tokens_cannot_be_read_from_serves_the_same_prompt_only():
    engine = Counting(hybrid_model("jamba"))
    for text in (FIRST, NEXT, FIRST):
        answers(engine, text)
    assert engine.read == [len(ids(FIRST)) - 1, len(ids(NEXT)) - 1]


def test_prompts_that_begin_alike_share_their_blocks():
    engine = HFEngine(make_model("llama"), byte_tokenizer(), prefix_bytes=2**30)
    long = FIRST * 6
    sizes = []
    for text in (long + "a", long + "b" * 40, long + "a, then more"):
        answers(engine, text)
        sizes.append(engine._batches.prefixes.bytes_held)
    per_token = sizes[0] / len(ids(long))
    assert sizes[2] < sizes[0] + per_token * 60
    blocks = [prompt.prefix.attention[0].blocks[0].keys.data_ptr() for prompt in engine._batches.prefixes._prompts]
    assert len(set(blocks)) == 1


def test_the_oldest_prompts_are_given_up_first():
    model = make_model("llama")
    probe = HFEngine(model, byte_tokenizer(), prefix_bytes=2**30)
    answers(probe, FIRST)
    engine = Counting(model, prefix_bytes=int(2.5 * probe._batches.prefixes.bytes_held))
    others = [letter * len(FIRST) for letter in "ab"]
    for text in (FIRST, *others):
        answers(engine, text)
    assert 0 < engine._batches.prefixes.bytes_held <= engine._batches.prefixes.max_bytes
    engine.read.clear()
    answers(engine, others[1])
    assert engine.read == []
    answers(engine, FIRST)
    assert engine.read == [len(ids(FIRST)) - 1]


def test_a_prompt_that_exceeds_the_limit_does_not_displace_the_others():
    model = make_model("llama")
    probe = HFEngine(model, byte_tokenizer(), prefix_bytes=2**30)
    answers(probe, FIRST)
    engine = Counting(model, prefix_bytes=int(1.5 * probe._batches.prefixes.bytes_held))
    answers(engine, FIRST)
    answers(engine, NEXT * 3)
    engine.read.clear()
    answers(engine, FIRST)
    assert engine.read == []


def test_nothing_is_kept_where_nothing_may_be():
    engine = Counting(make_model("llama"), prefix_bytes=0)
    answers(engine, FIRST)
    answers(engine, FIRST)
    assert len(engine.read) == 2
    with pytest.raises(ConfigurationError, match="prefix_cache_mb is -1"):
        NeuronAgreementDecoder(loaded(), prefix_cache_mb=-1)
