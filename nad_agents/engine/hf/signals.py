"""Token-level signals of the model's own distribution, before temperature and all other processors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

__all__ = ["CONFIDENCE_TOP", "TokenSignals", "token_signals"]

CONFIDENCE_TOP = 20
"""Number of likeliest tokens that the confidence averages over (arXiv 2508.15260)."""

_LOGITS_IN_CACHE = 2**18
"""Number of logits that stay in a CPU core's cache from one pass over them to the next."""


@dataclass(frozen=True)
class TokenSignals:
    """Signals of the distribution over the next token, for R rows.

    Attributes:
        log_normalizer: float32 [R], log of the sum of exponentiated logits; a token's log-probability is its logit
            minus this.
        entropy: float32 [R], entropy in nats.
        self_certainty: float32 [R], KL divergence from the uniform distribution in nats (arXiv 2502.18581).
        confidence: float32 [R], negative mean log-probability of the `CONFIDENCE_TOP` likeliest tokens.
    """

    log_normalizer: torch.Tensor
    entropy: torch.Tensor
    self_certainty: torch.Tensor
    confidence: torch.Tensor


def token_signals(logits: torch.Tensor, top_scores: torch.Tensor | None = None) -> TokenSignals:
    """Compute the signals of each row.

    Args:
        logits: float32 [R, vocabulary], the model's unprocessed logits.
        top_scores: float32 [R, at least CONFIDENCE_TOP], the largest logits in descending order; None computes them.

    Returns:
        One value of each signal per row; NaN where the logits are NaN.
    """
    top = logits.topk(min(CONFIDENCE_TOP, logits.shape[-1]), dim=-1).values if top_scores is None else top_scores
    # a few rows at a time, so that they stay in the CPU's cache from one pass to the next
    rows = max(1, _LOGITS_IN_CACHE // logits.shape[-1]) if logits.device.type == "cpu" else len(logits)
    parts = [_row_signals(part) for part in torch.split(logits, max(rows, 1))]
    whole = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts, strict=True))
    log_normalizer, expected_logit, mean_logit = whole
    return TokenSignals(
        log_normalizer,
        log_normalizer - expected_logit,
        log_normalizer - mean_logit - math.log(logits.shape[-1]),
        log_normalizer - top[:, :CONFIDENCE_TOP].mean(-1),
    )


def _row_signals(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return log-normalizer, expected logit and mean logit of each row, float32 [R] each."""
    largest = logits.amax(-1, keepdim=True)
    weights = (logits - largest).exp_()
    total = weights.sum(-1)
    # a logit of -inf has probability 0 and adds nothing, but 0 * -inf is NaN
    expected = torch.linalg.vecdot(weights, logits.clamp_min(torch.finfo(logits.dtype).min)) / total
    return largest.squeeze(-1) + total.log(), expected, logits.mean(-1)
