"""Selectors on token signals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nad_agents.exceptions import ConfigurationError
from nad_agents.neurons.comparison import ComparisonConfig
from nad_agents.selectors import (
    DeepConf,
    Entropy,
    MeanLogprob,
    NADFusion,
    Random,
    SelfCertainty,
    Shortest,
    TailEntropy,
    rank,
)
from nad_agents.selectors.confidence import lowest_window_mean
from tests.unit.builders import make_group, make_rollout


def test_means_of_token_signals():
    group = make_group(
        [
            make_rollout([[0]] * 2, logprobs=[-1, -3], entropies=[1, 2], self_certainties=[4, 8]),
            make_rollout([[0]] * 2, logprobs=[-1, math.nan], entropies=[0, 1], self_certainties=[1, 1]),
            make_rollout([]),
            make_rollout([[0]], logprobs=-1.5, entropies=2, self_certainties=math.inf),
        ]
    )
    expected = {
        MeanLogprob: [-2, math.nan, math.nan, -1.5],
        Entropy: [-1.5, -0.5, math.nan, -2],
        SelfCertainty: [6, 1, math.nan, math.nan],
    }
    for kind, values in expected.items():
        assert np.array_equal(kind().score(group).values, values, equal_nan=True)
    assert rank(MeanLogprob().score(group), group) == [3, 0, 2, 1]


def test_token_signals_look_at_the_compared_tokens():
    group = make_group([make_rollout([[0]] * 4, logprobs=[-1, -2, -3, -9]), make_rollout([[0]] * 3, logprobs=-2)])
    compared = ComparisonConfig(skip_tokens=1, common_prefix=True)
    assert MeanLogprob(comparison=compared).score(group).values.tolist() == [-2.5, -2]


def test_lowest_window_by_hand():
    signal = np.array([4, 1, 3, 8], dtype=np.float32)
    # windows of two: 2.5, 2, 5.5
    assert lowest_window_mean(signal, 2) == 2
    assert lowest_window_mean(signal, 9) == 4
    assert math.isnan(lowest_window_mean(signal[:0], 2))


def test_deepconf_group_size():
    flat = make_rollout([[0]] * 100, confidences=5.0)
    dip = make_rollout([[0]] * 100, confidences=[9.0] * 50 + [1.0] * 10 + [9.0] * 40)
    group = make_group([flat, dip])
    # a tenth of the median of 100 tokens: windows of 10, one of which is the dip
    assert DeepConf().score(group).values.tolist() == [5, 1]
    # windows of 20: half of the worst one is the dip
    assert DeepConf(group_size=20).score(group).values.tolist() == [5, 5]
    # a whole answer: 0.9 * 9 + 0.1 * 1
    assert DeepConf(group_size=2048).score(group).values == pytest.approx([5, 8.2])
    # short answers: never fewer than 8 tokens; the lowest 8 of these are 4 * 1 and 4 * 9
    short = make_group([make_rollout([[0]] * 20, confidences=[9.0] * 8 + [1.0] * 4 + [9.0] * 8)])
    assert DeepConf().score(short).values.tolist() == [5]


def test_tail_entropy_is_the_median_of_the_last_fifth():
    entropies = [3.0] * 80 + [0.1] * 11 + [2.0] * 9
    group = make_group([make_rollout([[0]] * 100, entropies=entropies), make_rollout([[0]] * 3, entropies=[1, 5, 2])])
    # the last 20 hold eleven times 0.1; the short one is all tail
    assert TailEntropy().score(group).values == pytest.approx([-0.1, -2])
    # the last 16 hold seven times 0.1 and nine times 2
    assert TailEntropy(share=0.1).score(group).values == pytest.approx([-2, -2])
    # the last 5
    assert TailEntropy(share=0.05, min_tokens=1).score(group).values == pytest.approx([-2, -2])


def test_shortest_puts_finished_candidates_first():
    group = make_group(
        [
            make_rollout([[0]] * 9),
            make_rollout([[0]] * 2, finish_reason="length"),
            make_rollout([[0]] * 4, logprobs=-2),
            make_rollout([[0]] * 4, logprobs=-1),
            make_rollout([]),
        ]
    )
    scores = Shortest().score(group)
    assert np.array_equal(scores.values, [-9, -11, -4, -4, math.nan], equal_nan=True)
    assert rank(scores, group) == [3, 2, 0, 1, 4]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DeepConf(group_size=0), "deepconf: group_size=0"),
        (lambda: TailEntropy(share=1.5), "tail_entropy: share=1.5 must be a number from 0 to 1"),
        (lambda: TailEntropy(min_tokens=0), "tail_entropy: min_tokens=0"),
        (lambda: Random(seed=-1), "random: seed=-1"),
        (lambda: NADFusion(agreement=-1), "nad_fusion: agreement=-1 must be a number of at least 0"),
        (lambda: NADFusion(0, 0, 0), "all weights are 0"),
        (lambda: NADFusion(k="3"), "nad_fusion: k='3'"),
    ],
)
def test_impossible_options(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()
