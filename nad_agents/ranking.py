"""Rank the candidates of a request: all of them, the survivors of a pruning, or those that passed the checks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nad_agents.neurons.comparison import ComparisonConfig
from nad_agents.pruning import PruningDecision
from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors import Selector, rank

__all__ = ["Ranked", "rank_passing", "rank_rollouts"]


@dataclass(frozen=True)
class Ranked:
    """The ranking of a request.

    Attributes:
        ranking: Candidate indices, best first; pruned ones last.
        scores: float64 [N].
        details: The selector's evidence.
        compared: The group that scores and similarities refer to.
        comparison: How that group was compared.
        selector: Name of the selector that decided, if the request's selector chose among others.
        votes: Each candidate's answers, if the selector compared the answers of all candidates; see `Scores.votes`.
    """

    ranking: tuple[int, ...]
    scores: NDArray[np.float64]
    details: dict[str, Any]
    compared: RolloutGroup
    comparison: ComparisonConfig
    selector: str | None = None
    votes: NDArray[np.int64] | None = None


def rank_rollouts(
    group: RolloutGroup, selector: Selector, comparison: ComparisonConfig, decision: PruningDecision | None
) -> Ranked:
    """Rank the candidates of a request.

    Without pruning the selector ranks all of them. After pruning it ranks the survivors on everything that they
    generated, if they are enough for the selector; the pruned ones follow in the order of the decision.

    Args:
        group: Every candidate.
        selector: Scores the candidates.
        comparison: How the selector compares candidates if nothing was pruned.
        decision: What pruning decided, if it did.
    """
    if decision is None:
        scores = selector.score(group)
        ranking = tuple(rank(scores, group))
        return Ranked(ranking, scores.values, scores.details, group, comparison, scores.selector, scores.votes)
    values, details = decision.scores.values.copy(), dict(decision.scores.details)
    survivors, chosen = list(decision.keep), decision.scores.selector
    if len(survivors) >= max(2, selector.min_candidates):
        part = RolloutGroup([group.rollouts[i] for i in survivors], group.layout, group.prompt)
        final = selector.score(part)
        values[survivors] = final.values
        details, chosen = {"survivors": survivors, **final.details}, final.selector
        survivors = [survivors[i] for i in rank(final, part)]
    dropped = [i for i in decision.ranking if i not in survivors]
    return Ranked((*survivors, *dropped), values, details, decision.group, decision.comparison, chosen)


def rank_passing(ranked: Ranked, group: RolloutGroup, selector: Selector, passing: Collection[int]) -> Ranked:
    """Rank the candidates that passed the checks by comparing only them; the others follow in their order.

    Wrong candidates that agree with one another then have no influence on the choice among those that passed.

    Args:
        ranked: The ranking of all candidates.
        group: Every candidate.
        selector: Scores the candidates.
        passing: Candidates that passed the checks.
    """
    first = [i for i in ranked.ranking if i in passing]
    details = {**ranked.details, "passed": first}
    if len(first) >= max(2, selector.min_candidates):
        part = RolloutGroup([group.rollouts[i] for i in first], group.layout, group.prompt)
        first = [first[place] for place in rank(selector.score(part), part)]
        details["passed"] = first
    return replace(ranked, ranking=(*first, *(i for i in ranked.ranking if i not in passing)), details=details)
