"""Baselines: a random candidate, whose expected accuracy is Avg@N, and the first one, which is a single sample."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors.base import Scores, SelectorBase, check_count

__all__ = ["First", "Random"]


@dataclass(frozen=True)
class Random(SelectorBase):
    """Ranks at random, so that each candidate comes first with probability 1/N.

    The score is a number in [0, 1) hashed from the seed, the prompt and the candidate's tokens, so that permuting the
    candidates permutes the scores. Copies of one candidate are numbered and hashed separately: an answer that was
    sampled m times is chosen with probability m/N.

    Attributes:
        seed: Seed of the ranking.
    """

    name: ClassVar[str] = "random"

    seed: int = 0

    def __post_init__(self) -> None:
        """Check the option."""
        check_count(self.name, "seed", self.seed, 0)

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate, in index order."""
        copies: Counter[bytes] = Counter()
        values = np.empty(len(group))
        base = hashlib.blake2b(f"{self.seed}\0{group.prompt}\0".encode("utf-8", "surrogatepass"), digest_size=8)
        for i, rollout in enumerate(group.rollouts):
            tokens = np.ascontiguousarray(rollout.token_ids, dtype="<i8").tobytes()
            digest = base.copy()
            digest.update(copies[tokens].to_bytes(8, "little") + tokens)
            copies[tokens] += 1
            # 53 bits, the precision of a float64 in [0, 1)
            values[i] = (int.from_bytes(digest.digest(), "little") >> 11) / 2**53
        return Scores(values)


@dataclass(frozen=True)
class First(SelectorBase):
    """Keeps the order of sampling, whose first candidate is what a single sample would have given."""

    name: ClassVar[str] = "first"

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate, in index order."""
        return Scores(-np.arange(len(group), dtype=np.float64))
