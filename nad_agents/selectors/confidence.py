"""Selectors by token signals: how sure the model was of what it wrote. They need no recorded neurons.

All of them read the compared tokens only (``compare_chunks``, ``skip_tokens``, ``common_prefix``), except `Shortest`. A
candidate without compared tokens, or with NaN among its signals, gets NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nad_agents.neurons.activated_sets import compared_tokens, compared_window
from nad_agents.rollouts import Rollout, RolloutGroup
from nad_agents.selectors.base import Scores, SelectorBase, check_count, check_number, mean_logprob

__all__ = [
    "DeepConf",
    "Entropy",
    "MeanLogprob",
    "SelfCertainty",
    "Shortest",
    "TailEntropy",
    "lowest_window_mean",
]


def lowest_window_mean(signal: NDArray[np.floating], size: int) -> float:
    """Return the lowest mean over `size` successive values; over all if there are fewer, NaN if there are none.

    Args:
        signal: Float [tokens], one value per token.
        size: Number of values in a window.
    """
    if not len(signal):
        return math.nan
    size = min(size, len(signal))
    sums = np.concatenate([[0.0], np.cumsum(signal, dtype=np.float64)])
    return float((sums[size:] - sums[:-size]).min() / size)


@dataclass(frozen=True)
class _TokenSignal(SelectorBase):
    """Base class of selectors that summarize one token signal in one number per candidate."""

    def _signal(self, rollout: Rollout) -> NDArray[np.float32]:
        raise NotImplementedError

    def _summary(self, signal: NDArray[np.float32], group: RolloutGroup) -> float:
        del group
        return float(np.mean(signal, dtype=np.float64))

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate, in index order."""
        values = np.full(len(group), np.nan)
        for i, rollout in enumerate(group.rollouts):
            signal = self._signal(rollout)[compared_window(group, i, self.comparison)]
            if len(signal):
                with np.errstate(invalid="ignore"):
                    values[i] = self._summary(signal, group)
        # an infinite signal is as uninformative as NaN
        values[~np.isfinite(values)] = np.nan
        return Scores(values)


@dataclass(frozen=True)
class MeanLogprob(_TokenSignal):
    """Prefers the highest mean log-probability per token (length-normalized likelihood)."""

    name: ClassVar[str] = "mean_logprob"

    def _signal(self, rollout: Rollout) -> NDArray[np.float32]:
        return rollout.logprobs


@dataclass(frozen=True)
class Entropy(_TokenSignal):
    """Prefers the lowest mean entropy; the score is minus the entropy in nats."""

    name: ClassVar[str] = "entropy"

    def _signal(self, rollout: Rollout) -> NDArray[np.float32]:
        return -rollout.entropies


@dataclass(frozen=True)
class SelfCertainty(_TokenSignal):
    """Prefers the highest mean self-certainty, the KL divergence from the uniform distribution (arXiv 2502.18581)."""

    name: ClassVar[str] = "self_certainty"

    def _signal(self, rollout: Rollout) -> NDArray[np.float32]:
        return rollout.self_certainties


@dataclass(frozen=True)
class DeepConf(_TokenSignal):
    """Prefers the highest minimum of the group confidence (DeepConf, arXiv 2508.15260).

    A group is a sliding window of tokens, and its confidence is the mean of theirs; a candidate's score is the
    confidence of its worst group. The paper's group of 2048 tokens is about a tenth of its reasoning traces, but on
    short answers it would be the whole answer. By default the group therefore is a tenth of the median compared length
    among the problem's candidates, at least 8 and at most 2048 tokens, and the same for all of them.

    Attributes:
        group_size: Tokens per group; None scales the group as described.
    """

    name: ClassVar[str] = "deepconf"

    group_size: int | None = None

    def __post_init__(self) -> None:
        """Check the option."""
        if self.group_size is not None:
            check_count(self.name, "group_size", self.group_size, 1)

    def _signal(self, rollout: Rollout) -> NDArray[np.float32]:
        return rollout.confidences

    def _summary(self, signal: NDArray[np.float32], group: RolloutGroup) -> float:
        size = self.group_size
        if size is None:
            lengths = compared_tokens(group, self.comparison)
            size = min(max(math.ceil(float(np.median(lengths[lengths > 0])) / 10), 8), 2048)
        return lowest_window_mean(signal, size)


@dataclass(frozen=True)
class TailEntropy(_TokenSignal):
    """Prefers the lowest median entropy over the tail, where the answer is; the score is minus that median in nats.

    The tail is the last fifth of the candidate's compared tokens, but at least `min_tokens` of them.

    Attributes:
        share: The tail's share of the tokens.
        min_tokens: Minimum length of the tail; a candidate with fewer tokens is all tail.
    """

    name: ClassVar[str] = "tail_entropy"

    share: float = 0.2
    min_tokens: int = 16

    def __post_init__(self) -> None:
        """Check the options."""
        check_number(self.name, "share", self.share, 0, 1)
        check_count(self.name, "min_tokens", self.min_tokens, 1)

    def _signal(self, rollout: Rollout) -> NDArray[np.float32]:
        return -rollout.entropies

    def _summary(self, signal: NDArray[np.float32], group: RolloutGroup) -> float:
        del group
        tail = max(math.ceil(self.share * len(signal)), self.min_tokens)
        return float(np.median(signal[-tail:].astype(np.float64)))


@dataclass(frozen=True)
class Shortest(SelectorBase):
    """Prefers the shortest candidate that ended by itself (short-1@k); the score is minus its number of tokens.

    A candidate that was cut off ranks below every finished one, because the length of the longest candidate is
    subtracted from its score. Ties are broken by mean log-probability.
    """

    name: ClassVar[str] = "shortest"

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate, in index order."""
        lengths = np.array([len(r) for r in group.rollouts], dtype=np.float64)
        finished = np.array([r.finish_reason == "stop" for r in group.rollouts], dtype=bool)
        values = -lengths - np.where(finished, 0.0, lengths.max(initial=0.0))
        values[lengths == 0] = np.nan
        return Scores(values, (np.array([mean_logprob(r) for r in group.rollouts], dtype=np.float64),))
