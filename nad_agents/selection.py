"""From finished rollouts to the ranking and the evidence that a caller sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nad_agents.exceptions import ConfigurationError
from nad_agents.neurons.activated_sets import ComparisonConfig, similarity_matrix, unique_counts
from nad_agents.pruning import PruningDecision
from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors import Selector, check_candidates, check_recorder, get_selector, rank
from nad_agents.types import Candidate, NADConfig, SamplingConfig, Usage

__all__ = ["Ranked", "check_configuration", "describe_candidates", "make_selector", "rank_rollouts", "token_usage"]


@dataclass(frozen=True)
class Ranked:
    """A decided request.

    Attributes:
        ranking: candidate indices, best first; dropped ones last.
        scores: float64 [N].
        details: the selector's evidence.
        compared: the group that the scores and the similarities are about.
        comparison: how it was compared.
    """

    ranking: tuple[int, ...]
    scores: NDArray[np.float64]
    details: dict[str, Any]
    compared: RolloutGroup
    comparison: ComparisonConfig


def make_selector(config: NADConfig, comparison: ComparisonConfig) -> Selector:
    """The selector that a configuration asks for.

    Raises:
        ConfigurationError: no such selector, or it does not take these options.
    """
    return get_selector(config.selector, comparison=comparison, **config.selector_options)


def check_configuration(sampling: SamplingConfig, config: NADConfig) -> None:
    """Refuse what cannot work, before a model is loaded or anything is generated.

    Raises:
        ConfigurationError: the selector is unknown, needs more candidates, needs neurons that are not recorded, or
            cannot judge the beginnings of answers; or candidates of several waves are to be compared at chunk ends.
    """
    selector = make_selector(config, ComparisonConfig.from_config(config))
    check_candidates(selector, sampling.n)
    if config.pruning != "never" and sampling.in_waves:
        msg = (
            f"pruning={config.pruning!r} compares all {sampling.n} candidates while they grow, and with "
            f"wave={sampling.wave} only so many grow at a time; leave one of them out"
        )
        raise ConfigurationError(msg)
    check_recorder(selector, record=config.record)
    if config.pruning != "never" and getattr(selector, "needs_whole_answers", False):
        msg = (
            f"{selector.name} compares whole answers and pruning={config.pruning!r} drops candidates before they have "
            "one; set pruning='never', or use a selector such as knn"
        )
        raise ConfigurationError(msg)


def rank_rollouts(
    group: RolloutGroup, selector: Selector, comparison: ComparisonConfig, decision: PruningDecision | None
) -> Ranked:
    """Rank the candidates of a request.

    Without pruning the selector ranks all of them. After pruning the survivors are ranked on everything that they
    generated, where there are enough of them for the selector; the dropped ones follow as they were ranked then.

    Args:
        group: every candidate.
        selector: the caller's.
        comparison: how to compare without pruning.
        decision: what pruning decided, if it did.
    """
    if decision is None:
        scores = selector.score(group)
        return Ranked(tuple(rank(scores, group)), scores.values, scores.details, group, comparison)
    values, details = decision.scores.values.copy(), dict(decision.scores.details)
    survivors = list(decision.keep)
    if len(survivors) >= max(2, selector.min_candidates):
        part = RolloutGroup([group.rollouts[i] for i in survivors], group.layout, group.prompt)
        final = selector.score(part)
        values[survivors] = final.values
        details = {"survivors": survivors, **final.details}
        survivors = [survivors[i] for i in rank(final, part)]
    dropped = [i for i in decision.ranking if i not in survivors]
    return Ranked((*survivors, *dropped), values, details, decision.group, decision.comparison)


def describe_candidates(
    group: RolloutGroup, ranked: Ranked, verdicts: Mapping[int, dict[str, Any]], *, recorded: bool
) -> tuple[tuple[Candidate, ...], tuple[tuple[float, ...], ...] | None]:
    """The candidates as the caller sees them, and the similarity matrix.

    Args:
        group: every candidate in full.
        ranked: the ranking.
        verdicts: what the verifier said, by candidate.
        recorded: whether neurons were recorded.
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
    places = {candidate: place for place, candidate in enumerate(ranked.ranking)}
    candidates = tuple(
        Candidate(
            index=i,
            rank=places[i],
            score=float(ranked.scores[i]),
            text=rollout.text,
            tokens=len(rollout),
            activated_neurons=counts[i],
            agreement=agreement[i],
            mean_logprob=float(rollout.logprobs.mean()) if len(rollout) else None,
            finish_reason=rollout.finish_reason,
            verdict=verdicts.get(i),
        )
        for i, rollout in enumerate(group.rollouts)
    )
    return candidates, matrix


def token_usage(group: RolloutGroup, prompt_tokens: int, winner: int) -> Usage:
    """Count the tokens of a request; what pruning saved is estimated from the longest survivor."""
    lengths = [len(rollout) for rollout in group.rollouts]
    pruned = [i for i, rollout in enumerate(group.rollouts) if rollout.finish_reason == "pruned"]
    longest = max((lengths[i] for i in range(len(lengths)) if i not in pruned), default=0)
    return Usage(
        prompt_tokens=prompt_tokens,
        generated_tokens=sum(lengths),
        winner_tokens=lengths[winner],
        saved_tokens=sum(max(0, longest - lengths[i]) for i in pruned),
    )
