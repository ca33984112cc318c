"""The first candidate, and a random one."""

from __future__ import annotations

import numpy as np

from nad_agents.selectors import (
    First,
    Random,
    rank,
)
from tests.unit.builders import group_of_sets, make_group, make_rollout, permuted


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
