"""NEX: credit neurons that are introduced while exploring and reused while exploiting (arXiv 2602.05805).

1. Novelty: the answer is cut into rows of a few tokens; a row's novelty is the number of neurons per token that no
   earlier row of the candidate had.
2. Phases: log(1 + novelty), detrended in log time and scaled by median and MAD, is explained by a sticky two-state
   hidden Markov model; rows in the state of higher novelty explore, the others exploit.
3. Credit: in each cycle (an exploring phase and the exploiting phase after it) the reuse is the share of the exploiting
   phase's activations that come from the neurons introduced while exploring. A cycle whose reuse is above the
   candidate's median cycle credits these neurons as effective (times the drop of novelty between the phases), one below
   it as redundant. Neuron weight = tanh(log(effective / redundant)), over all candidates.
4. Score: the good-mass fraction, which is the positively weighted share of a candidate's weighted activations.

This implementation differs from the paper as follows: an activation counts 1 per token that had the neuron in its set
(the paper sums magnitudes, which rollouts do not keep); rows are of `row_tokens` tokens; the two emissions are fitted
by expectation maximization from the lower and upper quartile, without a random start; and weights are learned on the
group itself. With few cycles no neuron gets credit and every score is 0, so that the mean reuse over the candidate's
cycles decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nad_agents.exceptions import ConfigurationError
from nad_agents.neurons.activated_sets import compared_neurons, neuron_counts
from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors.base import Scores, SelectorBase, check_count, check_number, content_order

__all__ = ["NEX", "explore_phases"]

_EPSILON = 1e-6


def _standardized(novelty: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
    """Return novelty on a robust scale, and whether it varies at all."""
    level = np.log1p(novelty)
    time = np.log1p(np.arange(len(novelty), dtype=np.float64))
    # novelty falls as the set fills up, so a spike is what lies above the trend
    slope, offset = np.polynomial.polynomial.polyfit(time, level, 1)[::-1]
    rest = level - offset - slope * time
    rest -= np.median(rest)
    deviation = float(np.median(np.abs(rest)))
    # a perfectly straight trend leaves only rounding errors, which are not spikes
    return (rest / deviation, True) if deviation > 1e-9 else (np.round(rest, 9), False)


def _two_gaussians(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit a mixture of two normal distributions; returns means and variances, the lower mean first."""
    means = np.quantile(x, [0.25, 0.75])
    variances = np.full(2, max(float(x.var()), _EPSILON))
    weights = np.full(2, 0.5)
    for _ in range(100):
        log_share = np.log(weights + 1e-300) + _log_normal(x, means, variances)
        share = np.exp(log_share - np.logaddexp(log_share[:, 0], log_share[:, 1])[:, None])
        mass = share.sum(axis=0) + 1e-12
        updated = share.T @ x / mass
        variances = np.maximum((share * (x[:, None] - updated) ** 2).sum(axis=0) / mass, _EPSILON)
        weights = mass / mass.sum()
        settled = bool(np.abs(updated - means).max() < 1e-6)
        means = updated
        if settled:
            break
    order = np.argsort(means)
    return means[order], variances[order]


def _log_normal(
    x: NDArray[np.float64], means: NDArray[np.float64], variances: NDArray[np.float64]
) -> NDArray[np.float64]:
    return -0.5 * (np.log(2 * np.pi * variances) + (x[:, None] - means) ** 2 / variances)


def _likeliest_states(emission: NDArray[np.float64], stickiness: float) -> NDArray[np.bool_]:
    """Return the Viterbi path over two states; True is the second state."""
    stay, leave = np.log(stickiness), np.log1p(-stickiness)
    moves = np.array([[stay, leave], [leave, stay]])
    best = emission[0] + np.log(0.5)
    origins = np.zeros(emission.shape, dtype=np.intp)
    for t in range(1, len(emission)):
        paths = best[:, None] + moves
        origins[t] = paths.argmax(axis=0)
        best = paths.max(axis=0) + emission[t]
    states = np.empty(len(emission), dtype=bool)
    state = int(best.argmax())
    for t in range(len(emission) - 1, -1, -1):
        states[t] = state
        state = int(origins[t, state])
    return states


def _runs(labels: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return (start, end) of each run of equal labels."""
    ends = [*(np.flatnonzero(labels[1:] != labels[:-1]) + 1).tolist(), len(labels)]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def explore_phases(novelty: NDArray[np.float64], stickiness: float = 0.95, min_run: int = 2) -> NDArray[np.bool_]:
    """Find the rows of a candidate that explore.

    Args:
        novelty: Float64 [R], new neurons per token of each row.
        stickiness: Probability of staying in a phase from row to row.
        min_run: Minimum rows of a phase; a shorter one is merged into the phase before it, or after it if it is the
            first.

    Returns:
        Bool [R]; all False if there are fewer than 3 rows.
    """
    if len(novelty) < 3:
        return np.zeros(len(novelty), dtype=bool)
    x, varies = _standardized(novelty)
    labels = _likeliest_states(_log_normal(x, *_two_gaussians(x)), stickiness) if varies else x > 0
    for start, end in _runs(labels):
        if end - start < min_run and (start > 0 or end < len(labels)):
            labels[start:end] = labels[start - 1] if start > 0 else labels[end]
    return labels


@dataclass(frozen=True)
class _Cycle:
    """An exploring phase and the exploiting phase after it.

    Attributes:
        introduced: Int32 ids of the neurons that are new in the exploring phase.
        mass: Float64, how many tokens of their first row had each of them.
        reuse: Share of the exploiting phase's activations that come from them.
        drop: How far novelty falls from exploring to exploiting, 0 to 1.
    """

    introduced: NDArray[np.int32]
    mass: NDArray[np.float64]
    reuse: float
    drop: float


def _cycles(neurons: NDArray[np.int32], n_neurons: int, options: NEX) -> list[_Cycle]:
    """Return the cycles of one candidate whose exploring phase is above the candidate's median novelty."""
    starts = range(0, len(neurons), options.row_tokens)
    seen = np.zeros(n_neurons, dtype=bool)
    rows, new, mass = [], [], []
    novelty = np.empty(len(starts))
    for i, start in enumerate(starts):
        tokens = neurons[start : start + options.row_tokens]
        row = tokens[tokens >= 0]
        introduced, counts = np.unique(row[~seen[row]], return_counts=True)
        seen[introduced] = True
        novelty[i] = len(introduced) / len(tokens)
        rows.append(row)
        new.append(introduced)
        mass.append(counts.astype(np.float64))
    if not rows:
        return []
    labels = explore_phases(novelty, options.stickiness, options.min_run)
    usual = float(np.median(novelty))
    cycles = []
    for (start, middle), (_, end) in pairwise(_runs(labels)):
        before, after = float(np.median(novelty[start:middle])), float(np.median(novelty[middle:end]))
        introduced = np.concatenate(new[start:middle])
        if not labels[start] or before <= usual or not len(introduced):
            continue
        marked = np.zeros(n_neurons, dtype=bool)
        marked[introduced] = True
        exploited = np.concatenate(rows[middle:end])
        reuse = float(marked[exploited].mean()) if len(exploited) else 0.0
        drop = min(max(1.0 - after / (before + _EPSILON), 0.0), 1.0)
        cycles.append(_Cycle(introduced, np.concatenate(mass[start:middle]), reuse, drop))
    return cycles


@dataclass(frozen=True)
class NEX(SelectorBase):
    """Scores by the good-mass fraction of NEX (arXiv 2602.05805); ties by the mean reuse of the candidate's cycles.

    The selector works with one candidate, but learns its neuron weights from all of them. ``details["reuse"]`` holds
    the mean reuse of each candidate (None without a cycle), and ``details["cycles"]`` their number.

    Attributes:
        row_tokens: Tokens per row; short answers need short rows to have phases at all.
        stickiness: Probability of staying in a phase from row to row (rho in the paper).
        min_run: Minimum rows of a phase.
    """

    name: ClassVar[str] = "nex"
    needs_neurons: ClassVar[bool] = True

    row_tokens: int = 4
    stickiness: float = 0.95
    min_run: int = 2

    def __post_init__(self) -> None:
        """Check the options."""
        check_count(self.name, "row_tokens", self.row_tokens, 1)
        check_count(self.name, "min_run", self.min_run, 1)
        check_number(self.name, "stickiness", self.stickiness, 0, 1)
        if self.stickiness in {0, 1}:
            msg = f"nex: stickiness={self.stickiness} forbids or forces a change of phase; choose one between 0 and 1"
            raise ConfigurationError(msg)

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate, in index order.

        Raises:
            ConfigurationError: No neurons were recorded.
        """
        n = len(group)
        # only the group's activated neurons are numbered, as a large mixture of experts has millions of others
        counts_of = neuron_counts(group, self.comparison)
        used = np.unique(np.concatenate([ids for ids, _ in counts_of])) if n else np.empty(0, dtype=np.int32)
        number = np.empty(group.layout.n_neurons, dtype=np.int32)
        number[used] = np.arange(len(used))
        effective = np.zeros(len(used))
        redundant = np.zeros(len(used))
        reuse, cycles_of = np.full(n, np.nan), [0] * n
        # in content order, because the order of the candidates must not change the last bit of a sum
        for i in content_order(group):
            neurons = compared_neurons(group, i, self.comparison)
            numbered = np.where(neurons >= 0, number[neurons], np.int32(-1))
            cycles = _cycles(numbered, len(used), self)
            if not cycles:
                continue
            shares = [c.reuse for c in cycles]
            reuse[i], cycles_of[i] = np.mean(shares), len(cycles)
            middle = float(np.median(shares))
            for cycle in cycles:
                gain = cycle.reuse - middle
                if gain > 0 and cycle.drop > 0:
                    effective[cycle.introduced] += gain * cycle.drop * cycle.mass
                else:
                    redundant[cycle.introduced] += abs(gain) * cycle.mass
        weights = np.tanh(np.log((effective + _EPSILON) / (redundant + _EPSILON)))

        values = np.full(n, np.nan)
        for i, (ids, counts) in enumerate(counts_of):
            if len(ids):
                of_ids = weights[number[ids]]
                good = float((counts * np.maximum(of_ids, 0)).sum())
                all_mass = float((counts * np.abs(of_ids)).sum())
                values[i] = good / all_mass if all_mass > 0 else 0.0
        details = {"reuse": [None if np.isnan(r) else float(r) for r in reuse], "cycles": cycles_of}
        return Scores(values, (reuse,), details)
