"""Signals of a token's distribution against their definitions."""

import math

import pytest
import torch

from nad_agents.engine.hf.signals import token_signals


@pytest.mark.parametrize("vocabulary", [5, 300, 2**18 + 3])
def test_against_their_definitions(vocabulary):
    logits = torch.randn(7, vocabulary, generator=torch.Generator().manual_seed(2)) * 4 + 30
    found = token_signals(logits)
    logp = logits.double().log_softmax(-1)
    close = {"rtol": 1e-4, "atol": 1e-4, "check_dtype": False}
    torch.testing.assert_close(found.log_normalizer, logits.double().logsumexp(-1), **close)
    torch.testing.assert_close(found.entropy, -(logp.exp() * logp).sum(-1), **close)
    torch.testing.assert_close(found.self_certainty, -math.log(vocabulary) - logp.mean(-1), **close)
    torch.testing.assert_close(found.confidence, -logp.topk(min(20, vocabulary)).values.mean(-1), **close)
    handed_over = token_signals(logits, logits.topk(min(50, vocabulary)).values)
    assert torch.equal(handed_over.confidence, found.confidence)


def test_excluded_tokens_have_no_part_in_the_entropy():
    logits = torch.tensor([[0.0, 0.0, -torch.inf, -torch.inf]])
    assert token_signals(logits).entropy.item() == pytest.approx(math.log(2))


def test_logits_that_are_no_numbers_show():
    found = token_signals(torch.tensor([[0.0, torch.nan], [1.0, 2.0]]))
    assert found.entropy.isnan().tolist() == [True, False]
