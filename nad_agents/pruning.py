"""When losing candidates are dropped.

`first_chunk` is the paper's early stopping (arXiv 2510.26277, section 4): after the first chunk of B tokens the
candidates are ranked on that chunk's activated sets, the best `keep` go on, the others are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from nad_agents.activated_sets import ComparisonConfig
from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors.base import Scores, Selector, rank
from nad_agents.types import NADConfig

__all__ = ["PruningDecision", "PruningPolicy", "pruning_policy"]


@dataclass(frozen=True)
class PruningDecision:
    """What was decided after a chunk.

    Attributes:
        group: the candidates as they stood.
        comparison: what of them was compared.
        scores: the selector's scores on them.
        ranking: candidates, best first.
        keep: those that go on.
    """

    group: RolloutGroup
    comparison: ComparisonConfig
    scores: Scores
    ranking: tuple[int, ...]
    keep: tuple[int, ...]


@dataclass
class PruningPolicy:
    """Decides at the end of chunks; keeps what it decided.

    Attributes:
        comparison: what of the candidates the selector compares.
        selector: ranks the candidates; None never drops any.
        keep: how many survive.
        decision: what was decided, once it was.
    """

    comparison: ComparisonConfig
    selector: Selector | None = None
    keep: int = 1
    decision: PruningDecision | None = field(default=None, init=False)

    def after_chunk(self, live: Collection[int], take_group: Callable[[], RolloutGroup]) -> Collection[int]:
        """Candidates to drop now.

        Args:
            live: candidates that still generate.
            take_group: gives all candidates as they stand; called only when there is something to decide.
        """
        if self.selector is None or self.decision is not None or not live:
            return ()
        group = take_group()
        scores = self.selector.score(group)
        ranking = tuple(rank(scores, group))
        keep = ranking[: self.keep]
        self.decision = PruningDecision(group, self.comparison, scores, ranking, keep)
        return [candidate for candidate in live if candidate not in keep]


def pruning_policy(config: NADConfig, selector: Selector, comparison: ComparisonConfig, n: int) -> PruningPolicy:
    """The policy that a configuration asks for; one that keeps all N candidates drops none.

    Args:
        config: the caller's.
        selector: compares candidates on what `comparison` says.
        comparison: the first chunk alone.
        n: number of candidates.
    """
    if config.pruning == "never" or config.keep >= n:
        return PruningPolicy(comparison)
    return PruningPolicy(comparison, selector, config.keep)
