"""Prompts that begin like an earlier one: the same logits, fewer tokens read, bounded memory."""

import pytest
import torch

from nad_agents import ConfigurationError, NeuronAgreementDecoder, SamplingConfig
from nad_agents.engine.hf.engine import HFEngine
from tests.tiny_models import byte_tokenizer, make_model
from tests.unit.decoders import loaded
from tests.unit.engine.hf.generations import ids, run, seeded

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


def test_beginnings_too_short_and_layers_with_windows_are_read_anew():
    engine = Counting(make_model("llama"))
    for text in ("Hello there, you.", "Hello there, me.", "Hello there, me."):
        answers(engine, text)
    assert len(engine.read) == 3
    windows = Counting(make_model("mistral", sliding_window=16))
    for text in (FIRST, NEXT):
        answers(windows, text)
    assert windows.read == [len(ids(FIRST)) - 1, len(ids(NEXT)) - 1]


def test_the_oldest_prompts_are_given_up_first():
    model = make_model("llama")
    probe = HFEngine(model, byte_tokenizer(), prefix_bytes=2**30)
    answers(probe, FIRST)
    (one,) = probe._prefixes._prompts
    engine = Counting(model, prefix_bytes=int(2.5 * one.bytes))
    others = [letter * len(FIRST) for letter in "ab"]
    for text in (FIRST, *others):
        answers(engine, text)
    assert sum(prompt.bytes for prompt in engine._prefixes._prompts) <= engine._prefixes.max_bytes
    engine.read.clear()
    answers(engine, others[1])
    assert engine.read == []
    answers(engine, FIRST)
    assert engine.read == [len(ids(FIRST)) - 1]


def test_nothing_is_kept_where_nothing_may_be():
    engine = Counting(make_model("llama"), prefix_bytes=0)
    answers(engine, FIRST)
    answers(engine, FIRST)
    assert len(engine.read) == 2
    with pytest.raises(ConfigurationError, match="prefix_cache_mb is -1"):
        NeuronAgreementDecoder(loaded(), prefix_cache_mb=-1)
