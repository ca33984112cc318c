"""What holds of the ranking, whichever selector made the scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from nad_agents.exceptions import ConfigurationError
from nad_agents.rollouts import NeuronLayout
from nad_agents.selectors import Scores, available_selectors, content_order, mean_logprob, rank
from tests.unit.builders import group_of_sets, groups, make_by_name, make_group, make_rollout, permuted

EVERY = available_selectors()


def contents(group, ranking):
    return [
        (r.token_ids.tolist(), r.logprobs.tobytes(), r.entropies.tobytes(), r.neurons.tobytes(), r.text)
        for r in (group.rollouts[i] for i in ranking)
    ]


def test_values_then_tie_breaks_then_content():
    group = make_group(
        [
            make_rollout([[0]], tokens=[7], logprobs=-2),
            make_rollout([[0]], tokens=[5], logprobs=-1),
            make_rollout([[0], [0]], tokens=[1, 1], logprobs=-1),
            make_rollout([[0]], tokens=[4], logprobs=-1),
            make_rollout([[0]], tokens=[4], logprobs=-1),
        ]
    )
    # equal scores: higher log-probability, then fewer tokens, then smaller ids, then the position
    assert content_order(group) == [3, 4, 1, 2, 0]
    same = np.zeros(5)
    assert rank(Scores(same), group) == [3, 4, 1, 2, 0]
    assert rank(Scores(same, (np.array([1.0, 0, 0, 0, 0]),)), group) == [0, 3, 4, 1, 2]
    assert rank(Scores(np.array([0.0, 1, 2, 3, 4]), (np.array([1.0, 0, 0, 0, 0]),)), group) == [4, 3, 2, 1, 0]


def test_equal_tokens_of_different_texts_have_one_order_too():
    candidates = [make_rollout([[0]], tokens=[1], text=text) for text in ("4", "", "5")]
    assert content_order(make_group(candidates)) == [1, 0, 2]
    assert content_order(make_group(reversed(candidates))) == [1, 2, 0]
    # the judge meets the texts in that order, and the last bits of its mean depend on it
    judged = make_group([*candidates, make_rollout([[0]], tokens=[0], text=r"\boxed{4}")])
    selector = make_by_name("self_verify")
    assert (
        selector.score(permuted(judged, [2, 0, 3, 1])).values.tolist()
        == selector.score(judged).values[[2, 0, 3, 1]].tolist()
    )


def test_nan_ranks_last_in_scores_and_in_tie_breaks():
    group = group_of_sets([0], [1], [2], [3])
    nan = math.nan
    assert rank(Scores(np.array([nan, -5, nan, -math.inf])), group) == [1, 3, 0, 2]
    assert rank(Scores(np.zeros(4), (np.array([nan, -5, 2, nan]),)), group) == [2, 1, 0, 3]


def test_a_wrong_number_of_scores_is_refused():
    with pytest.raises(ConfigurationError, match=r"scores of shape \(2,\) for 3 candidates"):
        rank(Scores(np.zeros(2)), group_of_sets([0], [1], [2]))
    with pytest.raises(ConfigurationError, match=r"tie-breaks of shape \(4,\)"):
        rank(Scores(np.zeros(3), (np.zeros(4),)), group_of_sets([0], [1], [2]))


def test_mean_logprob_of_a_rollout():
    assert mean_logprob(make_rollout([[0], [0]], logprobs=[-1, -2])) == -1.5
    assert math.isnan(mean_logprob(make_rollout([])))
    assert math.isnan(mean_logprob(make_rollout([[0], [0]], logprobs=[-1, math.nan])))


# drawing a group takes far longer than ranking it: every selector ranks the same ones
@settings(deadline=None, max_examples=20)
@given(group=groups(), random=st.randoms())
def test_permuting_the_candidates_permutes_the_ranking(group, random):
    order = list(range(len(group)))
    random.shuffle(order)
    other = permuted(group, order)
    token_ids = [r.token_ids.tolist() for r in group.rollouts]
    distinct = len({repr(t) for t in token_ids}) == len(group)
    for name in EVERY:
        if name == "first":
            continue
        note(name)
        selector = make_by_name(name)
        scores, moved = selector.score(group), selector.score(other)
        # random and consensus_min tell copies of one candidate apart; dbscan and nex go through the candidates in
        # content order, which equal tokens with different signals (they cannot occur in a run) leave open
        if distinct or name not in {"random", "consensus_min", "dbscan", "nex"}:
            assert np.array_equal(moved.values, scores.values[order], equal_nan=True)
        ranking, moved_ranking = rank(scores, group), rank(moved, other)
        if distinct:
            assert contents(group, ranking) == contents(other, moved_ranking)
            assert [order[i] for i in moved_ranking] == ranking


@settings(deadline=None, max_examples=20)
@given(group=groups())
def test_scores_are_finite_or_nan_and_the_ranking_is_complete(group):
    for name in EVERY:
        note(name)
        scores = make_by_name(name).score(group)
        assert scores.values.shape == (len(group),)
        assert scores.values.dtype == np.float64
        assert not np.isinf(scores.values).any()
        ranking = rank(scores, group)
        assert sorted(ranking) == list(range(len(group)))
        missing = [i for i in ranking if math.isnan(scores.values[i])]
        assert missing == ranking[len(ranking) - len(missing) :]
        if name not in {"first", "random"}:
            assert all(math.isnan(scores.values[i]) for i, r in enumerate(group.rollouts) if not len(r))


@pytest.mark.parametrize("name", EVERY)
def test_details_are_json(name):
    import json

    group = make_group([make_rollout([[i % 7, i + 1]] * 3, text=rf"\boxed{{{i}}}") for i in range(6)])
    json.dumps(make_by_name(name).score(group).details, allow_nan=False)


@pytest.mark.parametrize("name", EVERY)
def test_identical_candidates_stay_in_order(name):
    group = make_group([make_rollout([[1, 2], [2, 3]])] * 4)
    ranking = rank(make_by_name(name).score(group), group)
    assert (sorted(ranking) if name == "random" else ranking) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", EVERY)
def test_one_candidate_and_none(name):
    group = make_group([make_rollout([[1, 2], [2, 3]], text=r"\boxed{1}")])
    scores = make_by_name(name).score(group)
    assert np.isfinite(scores.values).all()
    assert rank(scores, group) == [0]
    assert rank(make_by_name(name).score(make_group([])), make_group([])) == []


@pytest.mark.parametrize("name", EVERY)
def test_millions_of_neurons_that_nobody_activates_change_nothing(name):
    """Qwen3-30B-A3B, a mixture of experts, has about as many."""
    rng = np.random.default_rng(4)
    spread = 50_000
    near, far = [], []
    for _ in range(5):
        rows = [rng.choice(100, 12, replace=False) for _ in range(30)]
        near.append(make_rollout(rows, text="x"))
        far.append(make_rollout([row * spread for row in rows], text="x"))
    wide = NeuronLayout(n_layers=4, d_ff=25 * spread)
    expected, scores = (make_by_name(name).score(group) for group in (make_group(near), make_group(far, layout=wide)))
    np.testing.assert_array_equal(scores.values, expected.values)
    assert rank(scores, make_group(far, layout=wide)) == rank(expected, make_group(near))
