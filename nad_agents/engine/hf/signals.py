"""Token-level signals of the model's own distribution, before temperature and every other processor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

__all__ = ["CONFIDENCE_TOP", "TokenSignals", "token_signals"]

CONFIDENCE_TOP = 20
"""How many of the likeliest tokens the confidence averages over (arXiv 2508.15260)."""

_CACHED = 2**18
"""Logits that one pass after the other finds in a processor core's cache."""


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


def token_signals(logits: torch.Tensor, likeliest: torch.Tensor | None = None) -> TokenSignals:
    """Signals of each row.

    Args:
        logits: float32 [R, vocabulary], as the model gave them.
        likeliest: float32 [R, at least CONFIDENCE_TOP], the largest logits in falling order, where they are at hand.

    Returns:
        One value of each signal per row; NaN where the logits are NaN.
    """
    top = logits.topk(min(CONFIDENCE_TOP, logits.shape[-1]), dim=-1).values if likeliest is None else likeliest
    # some rows at a time, so that they stay in the processor's cache from one pass to the next
    rows = max(1, _CACHED // logits.shape[-1]) if logits.device.type == "cpu" else len(logits)
    parts = [_row_signals(part) for part in torch.split(logits, max(rows, 1))]
    whole = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts, strict=True))
    log_normaliser, expected_logit, mean_logit = whole
    return TokenSignals(
        log_normaliser,
        log_normaliser - expected_logit,
        log_normaliser - mean_logit - math.log(logits.shape[-1]),
        log_normaliser - top[:, :CONFIDENCE_TOP].mean(-1),
    )


def _row_signals(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log of the sum of exponentiated logits, expected logit and mean logit, float32 [R] each."""
    largest = logits.amax(-1, keepdim=True)
    weights = (logits - largest).exp_()
    total = weights.sum(-1)
    # a logit of -inf has probability 0 and adds nothing, but 0 * -inf is NaN
    expected = torch.linalg.vecdot(weights, logits.clamp_min(torch.finfo(logits.dtype).min)) / total
    return largest.squeeze(-1) + total.log(), expected, logits.mean(-1)
