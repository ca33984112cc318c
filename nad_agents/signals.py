"""Token-level signals of the model's own distribution, before temperature and every other processor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

__all__ = ["CONFIDENCE_TOP", "TokenSignals", "token_signals"]

CONFIDENCE_TOP = 20
"""How many of the likeliest tokens the confidence averages over (arXiv 2508.15260)."""


@dataclass(frozen=True)
class TokenSignals:
    """What one forward pass says of the next token, apart from the token itself; R rows.

    Attributes:
        log_normaliser: float32 [R], log of the sum of exponentiated logits; a token's log-probability is its logit
            minus this.
        entropy: float32 [R], nats.
        self_certainty: float32 [R], KL divergence of the distribution from uniform, nats (arXiv 2502.18581).
        confidence: float32 [R], negative mean log-probability of the likeliest `CONFIDENCE_TOP` tokens.
    """

    log_normaliser: torch.Tensor
    entropy: torch.Tensor
    self_certainty: torch.Tensor
    confidence: torch.Tensor


def token_signals(logits: torch.Tensor) -> TokenSignals:
    """Signals of each row.

    Args:
        logits: float32 [R, vocabulary], as the model gave them.

    Returns:
        One value of each signal per row; NaN where the logits are NaN.
    """
    vocabulary = logits.shape[-1]
    log_normaliser = logits.logsumexp(-1)
    probabilities = (logits - log_normaliser[:, None]).exp_()
    # a logit of -inf has probability 0 and adds nothing, but 0 * -inf is NaN
    expected_logit = (probabilities * logits.clamp_min(torch.finfo(logits.dtype).min)).sum(-1)
    self_certainty = log_normaliser - logits.mean(-1) - math.log(vocabulary)
    top = logits.topk(min(CONFIDENCE_TOP, vocabulary), dim=-1, sorted=False).values
    return TokenSignals(log_normaliser, log_normaliser - expected_logit, self_certainty, log_normaliser - top.mean(-1))
