"""Sparsity, confidence, baselines and fusion, against numbers computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nad_agents.exceptions import ConfigurationError
from nad_agents.neurons.activated_sets import ComparisonConfig
from nad_agents.selectors import (
    DeepConf,
    Entropy,
    First,
    MeanLogprob,
    MinAct,
    MinActPerToken,
    MinActResidual,
    NADFusion,
    Random,
    SelfCertainty,
    Shortest,
    TailEntropy,
    rank,
)
from nad_agents.selectors.confidence import lowest_window_mean
from nad_agents.selectors.fusion import rank_share
from nad_agents.selectors.sparsity import length_residual
from tests.unit.builders import group_of_sets, make_group, make_rollout, permuted


def of_length(tokens, neurons):
    """A candidate of so many tokens and so many different neurons."""
    return make_rollout([range(neurons), *([[0]] * (tokens - 1))])


def test_min_act_raw_and_per_token():
    group = make_group([of_length(2, 6), of_length(4, 8), of_length(1, 4), make_rollout([])])
    assert np.array_equal(MinAct().score(group).values, [-6, -8, -4, math.nan], equal_nan=True)
    assert rank(MinAct().score(group), group) == [2, 0, 1, 3]
    assert np.array_equal(MinActPerToken().score(group).values, [-3, -2, -4, math.nan], equal_nan=True)
    assert MinAct().score(group).details == {"activated_neurons": [6, 8, 4, 0]}


def test_min_act_residual_takes_the_line_on_length_out():
    # tokens 1, 2, 3 and counts 4, 8, 9: slope ((4-7)(-1) + 0 + (9-7)) / 2 = 5/2, line 4.5, 7, 9.5 -> -1/2, 1, -1/2
    group = make_group([of_length(1, 4), of_length(2, 8), of_length(3, 9)])
    assert MinActResidual().score(group).values == pytest.approx([0.5, -1, 0.5])


def test_residual_without_a_line():
    # two candidates, or one length: the deviation from the mean
    assert length_residual(np.array([4, 10]), np.array([1, 9])).tolist() == [-3, 3]
    assert length_residual(np.array([3, 6, 9]), np.array([5, 5, 5])).tolist() == [-3, 0, 3]
    assert length_residual(np.array([7]), np.array([2])).tolist() == [0]


@given(st.lists(st.tuples(st.integers(1, 30_000), st.integers(1, 5_000)), min_size=3, max_size=12))
def test_residual_is_least_squares(points):
    counts, tokens = np.array(points).T
    rest = length_residual(counts, tokens)
    if len(set(tokens.tolist())) > 1:
        line = np.polynomial.Polynomial.fit(tokens, counts, 1)
        np.testing.assert_allclose(rest, counts - line(tokens), atol=1e-6)
    assert rest.sum() == pytest.approx(0, abs=1e-6)


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


def test_first_keeps_the_order():
    group = group_of_sets([0], [1], [2])
    assert rank(First().score(group), group) == [0, 1, 2]
    assert rank(First().score(permuted(group, [2, 1, 0])), group) == [0, 1, 2]


def test_random_follows_the_candidates_and_its_seed():
    group = group_of_sets([0], [1], [2], [3])
    values = Random(seed=3).score(group).values
    assert np.array_equal(Random(seed=3).score(permuted(group, [2, 0, 3, 1])).values, values[[2, 0, 3, 1]])
    assert ((values >= 0) & (values < 1)).all()
    assert not np.array_equal(Random(seed=4).score(group).values, values)
    assert not np.array_equal(Random(seed=3).score(make_group(group.rollouts, prompt="other")).values, values)


def test_random_chooses_every_candidate_equally_often():
    # token 0 was sampled three times, token 3 once: 3/4 and 1/4 of 2000 draws, standard deviation below 20
    group = make_group([make_rollout([[0]], tokens=[t]) for t in (0, 0, 0, 3)])
    first = [rank(Random(seed=s).score(group), group)[0] for s in range(2000)]
    assert 420 < first.count(3) < 580


def test_rank_share():
    assert rank_share(np.array([5.0, 1.0, 5.0, math.nan])).tolist() == [5 / 6, 1 / 3, 5 / 6, 0]
    assert rank_share(np.array([2.0])).tolist() == [1]


def test_fusion_by_hand():
    # knn: the first two share 3 of 5 neurons (0.6 and 0.2 to the other: 0.4), the third 1 of 5 with each (0.2)
    sets = [{0, 1, 2, 3}, {0, 1, 2, 4}, {0, 5}]
    group = make_group([make_rollout([s], tokens=[i], logprobs=-1 - i) for i, s in enumerate(sets)])
    scores = NADFusion().score(group)
    assert scores.details == {
        "agreement": [0.75, 0.75, 0],
        "sparsity": [0.25, 0.25, 1],
        "confidence": [1, 0.5, 0],
    }
    # weights 1, 1/2, 1
    assert scores.values == pytest.approx([1.875 / 2.5, 1.375 / 2.5, 0.5 / 2.5])
    only = NADFusion(agreement=0, sparsity=1, confidence=0).score(group)
    assert rank(only, group)[0] == 2


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
