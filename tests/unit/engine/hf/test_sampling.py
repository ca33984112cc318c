"""Drawing on the likeliest tokens alone gives what drawing on all of them gives."""

import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.generation.logits_process import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from nad_agents.engine.hf.sampling import TokenSampler, TopLogits, sample_tokens

ROWS, VOCABULARY = 40, 2000
SEQUENCES = torch.arange(ROWS * 3).view(ROWS, 3)


def draws(processors, logits, uniforms=None, likeliest=None):
    """What the sampler draws, and what the plain way draws."""
    uniforms = torch.rand(len(logits), generator=torch.Generator().manual_seed(1)) if uniforms is None else uniforms
    before = logits.clone()
    sampler = TokenSampler(LogitsProcessorList(processors), greedy=False)
    mine = sampler.draw(SEQUENCES[: len(logits)], logits, uniforms, likeliest)
    assert torch.equal(before, logits)
    return mine, sample_tokens(LogitsProcessorList(processors)(SEQUENCES[: len(logits)], before), uniforms)


def some_logits(seed=0):
    return torch.randn(ROWS, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize(
    "processors",
    [
        [TopKLogitsWarper(50)],
        [TemperatureLogitsWarper(0.8), TopKLogitsWarper(50), TopPLogitsWarper(0.95)],
        [TemperatureLogitsWarper(1.7), TopKLogitsWarper(5), TopPLogitsWarper(0.5), MinPLogitsWarper(0.1)],
        [TopKLogitsWarper(30), TypicalLogitsWarper(0.6), EpsilonLogitsWarper(0.01), EtaLogitsWarper(0.01)],
        [RepetitionPenaltyLogitsProcessor(1.4), TemperatureLogitsWarper(0.6), TopKLogitsWarper(20)],
    ],
)
def test_the_likeliest_are_enough(processors):
    sampler = TokenSampler(LogitsProcessorList(processors), greedy=False)
    assert sampler.width > 0
    logits = some_logits()
    mine, plain = draws(processors, logits)
    assert torch.equal(mine, plain)
    handed_over, _ = draws(processors, logits, likeliest=TopLogits(*logits.topk(sampler.width + 7)))
    assert torch.equal(handed_over, plain)
    assert len(set(mine.tolist())) > 10


class Ban(LogitsProcessor):
    """Leaves a few tokens, and writes into what it gets."""

    def __call__(self, input_ids, scores):
        scores[:, 3:] = -torch.inf
        return scores


def test_a_processor_that_writes_into_its_logits_disturbs_nobody():
    mine, plain = draws([Ban(), TemperatureLogitsWarper(0.5), TopKLogitsWarper(50)], some_logits())
    assert torch.equal(mine, plain)
    assert set(mine.tolist()) <= {0, 1, 2}


def test_ties_with_the_last_of_the_k_are_kept():
    few = torch.full((ROWS, VOCABULARY), -5.0)
    few[:, 100:110] = 2.0
    many = torch.full((ROWS, VOCABULARY), -5.0)
    many[:, 100:600] = 2.0
    for logits, tied in ((few, 10), (many, 500)):
        mine, plain = draws([TopKLogitsWarper(4)], logits, uniforms=torch.linspace(0, 0.999, ROWS))
        assert torch.equal(mine, plain)
        assert mine.min() < 100 + tied / 10
        assert mine.max() >= 100 + tied * 9 // 10


def test_ties_that_the_temperature_makes_are_kept():
    heat = TemperatureLogitsWarper(3.0)
    values = torch.linspace(1, 2, 1000)
    above = torch.nextafter(values, torch.tensor(3.0))
    rounded = int((heat(None, values) == heat(None, above)).nonzero()[0])
    logits = torch.full((1, VOCABULARY), -5.0)
    logits[0, :100], logits[0, 100:200] = above[rounded], values[rounded]
    assert logits[0, 0] > logits[0, 150]
    assert heat(None, logits)[0, 0] == heat(None, logits)[0, 150]
    mine, plain = draws([heat, TopKLogitsWarper(90)], logits, uniforms=torch.tensor([0.9]))
    assert torch.equal(mine, plain)
    assert mine.item() >= 100


@pytest.mark.parametrize(
    "processors",
    [
        [TemperatureLogitsWarper(0.8), TopPLogitsWarper(0.95)],
        [TopKLogitsWarper(50), RepetitionPenaltyLogitsProcessor(1.2)],
        [],
    ],
)
def test_where_every_token_counts_all_are_looked_at(processors):
    assert TokenSampler(LogitsProcessorList(processors), greedy=False).width == 0
    mine, plain = draws(processors, some_logits())
    assert torch.equal(mine, plain)


def test_a_vocabulary_smaller_than_the_width():
    mine, plain = draws([TopKLogitsWarper(50), TopPLogitsWarper(0.9)], some_logits()[:, :60])
    assert torch.equal(mine, plain)


def test_greedy_takes_the_best_after_the_processors():
    logits = some_logits()
    sampler = TokenSampler(LogitsProcessorList([Ban()]), greedy=True)
    assert torch.equal(sampler.draw(SEQUENCES, logits, torch.zeros(ROWS)), logits[:, :3].argmax(-1))
