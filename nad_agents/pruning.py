"""Decide which candidates are dropped while they grow.

`first_chunk` is the paper's early stopping (arXiv 2510.26277, section 4): after the first chunk of B tokens the
candidates are ranked on that chunk's activated sets, the best `keep` go on, and the others are dropped. `halving` is
successive halving (arXiv 1502.07943): after every chunk the candidates are ranked on all chunks so far and one in
`shrink` goes on, until `keep` are left.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import numpy as np

from nad_agents.neurons.comparison import ComparisonConfig
from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors.base import Scores, Selector, rank
from nad_agents.types import NADConfig

__all__ = ["PruningDecision", "PruningPolicy", "pruning_policy", "pruning_stages"]


@dataclass(frozen=True)
class PruningDecision:
    """The decisions made so far.

    Attributes:
        group: The candidates after the first chunk.
        comparison: How they were compared on the first chunk.
        scores: The score of each candidate when it was last compared.
        ranking: Candidates, best first; those dropped earlier come later.
        keep: Candidates that go on.
    """

    group: RolloutGroup
    comparison: ComparisonConfig
    scores: Scores
    ranking: tuple[int, ...]
    keep: tuple[int, ...]


@dataclass
class PruningPolicy:
    """Decides at the ends of chunks which candidates go on, and remembers its last decision.

    Attributes:
        comparison: How candidates are compared on the first chunk.
        stages: How many candidates go on after the first, second, ... chunk; empty to drop none.
        make_selector: Makes the selector that compares the first chunks, given their number.
        decision: The last decision; None before the first one.
    """

    comparison: ComparisonConfig
    stages: tuple[int, ...] = ()
    make_selector: Callable[[int], Selector] | None = None
    decision: PruningDecision | None = field(default=None, init=False)
    _decided: int = field(default=0, init=False)

    @property
    def final(self) -> bool:
        """Whether the last decision has been made, so that no further candidate will be dropped."""
        return self.decision is not None and self._decided == len(self.stages)

    def after_chunk(self, live: Collection[int], take_group: Callable[[], RolloutGroup]) -> Collection[int]:
        """Return the candidates to drop now.

        Args:
            live: Candidates that are still generating.
            take_group: Returns all candidates in their present state; called only if there is something to decide.
        """
        if self.make_selector is None or self._decided == len(self.stages) or not live:
            return ()
        count = self.stages[self._decided]
        self._decided += 1
        group = take_group()
        # 1. compare the candidates that were kept so far
        before = self.decision
        compared = list(range(len(group)) if before is None else before.keep)
        selector = self.make_selector(self._decided)
        if before is not None and len(compared) < selector.min_candidates:
            values, ranking, details = before.scores.values, before.ranking, before.scores.details
            chosen = before.scores.selector
        else:
            part = RolloutGroup([group.rollouts[i] for i in compared], group.layout, group.prompt)
            scores = selector.score(part)
            values = np.full(len(group), np.nan) if before is None else before.scores.values.copy()
            values[compared] = scores.values
            ranking = tuple(compared[place] for place in rank(scores, part))
            details = scores.details if before is None else before.scores.details
            chosen = scores.selector
            # 2. candidates dropped earlier stay behind them
            ranking += () if before is None else before.ranking[len(compared) :]
        keep = ranking[:count]
        first = group if before is None else before.group
        scores = Scores(values, details=details, selector=chosen)
        self.decision = PruningDecision(first, self.comparison, scores, ranking, keep)
        return [candidate for candidate in live if candidate not in keep]


def pruning_stages(config: NADConfig, n: int) -> tuple[int, ...]:
    """Return how many of n candidates go on after the first, second, ... chunk; empty if none is ever dropped.

    Args:
        config: Says when candidates are dropped, and how many are kept.
        n: Number of candidates.

    >>> pruning_stages(NADConfig(pruning="halving", shrink=4), 64)
    (16, 4, 1)
    """
    if config.pruning == "never" or config.keep >= n:
        return ()
    if config.pruning == "first_chunk":
        return (config.keep,)
    stages = []
    while n > config.keep:
        n = max(config.keep, -(-n // config.shrink))
        stages.append(n)
    return tuple(stages)


def pruning_policy(
    config: NADConfig, make_selector: Callable[[int], Selector], comparison: ComparisonConfig, n: int
) -> PruningPolicy:
    """Make the policy that a configuration asks for; a policy that keeps all N candidates drops none.

    Args:
        config: Says when how many candidates are dropped.
        make_selector: Makes the selector that compares the first chunks, given their number.
        comparison: How candidates are compared on the first chunk.
        n: Number of candidates.
    """
    return PruningPolicy(comparison, pruning_stages(config, n), make_selector)
