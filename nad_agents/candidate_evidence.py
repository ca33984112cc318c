"""Describe the candidates of a request to its caller: scores, agreement, verdicts and token counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nad_agents.neurons.activated_sets import similarity_matrix, unique_counts
from nad_agents.ranking import Ranked
from nad_agents.rollouts import Rollout, RolloutGroup
from nad_agents.types import Candidate, Usage

__all__ = ["describe_candidates", "token_usage"]


def describe_candidates(
    group: RolloutGroup, ranked: Ranked, verdicts: Mapping[int, dict[str, Any]], *, recorded: bool
) -> tuple[tuple[Candidate, ...], tuple[tuple[float, ...], ...] | None]:
    """Return the candidates as the caller sees them, and the similarity matrix.

    Args:
        group: Every candidate in full.
        ranked: The ranking.
        verdicts: The verifier's verdicts by candidate.
        recorded: Whether neurons were recorded; the matrix is None if they were not.
    """
    n = len(group)
    counts: Sequence[int | None] = [None] * n
    agreement: Sequence[float | None] = [None] * n
    matrix = None
    if recorded:
        counts = [int(count) for count in unique_counts(ranked.compared, ranked.comparison)]
        similarity = similarity_matrix(ranked.compared, ranked.comparison)
        matrix = tuple(tuple(float(value) for value in row) for row in similarity)
        if n > 1:
            agreement = [float((row.sum() - row[i]) / (n - 1)) for i, row in enumerate(similarity)]
    ranks = {candidate: place for place, candidate in enumerate(ranked.ranking)}
    candidates = tuple(
        Candidate(
            index=i,
            rank=ranks[i],
            score=float(ranked.scores[i]),
            text=rollout.text,
            tokens=len(rollout),
            activated_neurons=counts[i],
            agreement=agreement[i],
            mean_logprob=_mean_logprob(rollout),
            finish_reason=rollout.finish_reason,
            verdict=verdicts.get(i),
        )
        for i, rollout in enumerate(group.rollouts)
    )
    return candidates, matrix


def token_usage(
    group: RolloutGroup, prompt_tokens: int, winner: int, *, cached_tokens: int = 0, not_generated: int = 0
) -> Usage:
    """Count the tokens of a request and estimate what was saved.

    Args:
        group: The candidates.
        prompt_tokens: Number of tokens of the prompt.
        winner: The chosen candidate.
        cached_tokens: Number of prompt tokens that were not read again.
        not_generated: Number of requested candidates that were not generated because sampling stopped early.
    """
    lengths = [len(rollout) for rollout in group.rollouts]
    pruned = [i for i, rollout in enumerate(group.rollouts) if rollout.finish_reason == "pruned"]
    longest = max((lengths[i] for i in range(len(lengths)) if i not in pruned), default=0)
    return Usage(
        prompt_tokens=prompt_tokens,
        generated_tokens=sum(lengths),
        winner_tokens=lengths[winner],
        saved_tokens=sum(max(0, longest - lengths[i]) for i in pruned)
        + (not_generated * sum(lengths)) // max(len(lengths), 1),
        cached_tokens=cached_tokens,
    )


def _mean_logprob(rollout: Rollout) -> float | None:
    """Return a candidate's mean log-probability; None if it has no token, or the server gave no log-probabilities."""
    mean = float(rollout.logprobs.mean()) if len(rollout) else math.nan
    return mean if math.isfinite(mean) else None
