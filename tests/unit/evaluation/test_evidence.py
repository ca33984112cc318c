"""The figures of a report, worked out by hand on problems written down by hand."""

import pytest

from nad_agents.evaluation.evidence import collect_evidence
from nad_agents.evaluation.plan import Plan
from nad_agents.evaluation.variants import Variant
from tests.unit.evaluation.handmade_measures import PLAN, measured, same_everywhere


def rows_of(evidence):
    return {row.label: row for row in evidence.rows}


def test_accuracy_gain_and_the_bounds_around_them():
    problems = [
        same_everywhere("a", [1, 0, 0, 0], [0, 1, 2, 3]),  # right, where one in four is
        same_everywhere("b", [0, 1, 1, 0], [0, 1, 2, 3]),  # wrong, where half are
        same_everywhere("c", [1, 1, 1, 1], [3, 2, 1, 0]),
        same_everywhere("d", [0, 0, 0, 0], [3, 2, 1, 0]),
    ]
    found = collect_evidence(problems, PLAN, draws=500)
    assert (found.problems, found.candidates, found.mixed) == (4, 4, 2)
    assert found.average.value == pytest.approx((0.25 + 0.5 + 1 + 0) / 4)
    assert found.oracle.value == 0.75
    row = rows_of(found)["knn"]
    assert row.accuracy.value == 0.5
    assert row.gain.value == pytest.approx((0.75 - 0.5) / 4)
    # a: the right one is above all three; b: the right ones are above one of two, in 2 of 4 pairs
    assert row.auroc.value == pytest.approx((1 + 0.5) / 2)
    assert row.auroc.n == 2


def test_walking_the_ranking_to_the_examples():
    problems = [
        # the first that satisfies the examples is candidate 2, which is right
        same_everywhere("a", [0, 0, 1, 1], [0, 2, 1, 3], examples=[False, True, True, True]),
        # none satisfies them: the first in rank, which is right
        same_everywhere("b", [1, 0, 0, 0], [0, 1, 2, 3], examples=[False] * 4),
        # no examples: the first in rank, which is wrong
        same_everywhere("c", [0, 0, 0, 1], [0, 1, 2, 3]),
    ]
    found = collect_evidence(problems, PLAN, draws=200)
    row = rows_of(found)["knn"]
    assert row.accuracy.value == pytest.approx(1 / 3)
    assert row.with_examples.value == pytest.approx(2 / 3)
    # by chance: two of the three that satisfy them are right; one in four; one in four
    by_chance = (2 / 3 + 1 / 4 + 1 / 4) / 3
    assert found.with_examples_random.value == pytest.approx(by_chance)
    assert row.gain_with_examples.value == pytest.approx(2 / 3 - by_chance)


def test_difficulty_leaves_out_what_no_selector_can_change():
    problems = [
        same_everywhere("never", [0, 0, 0, 0], [0, 1, 2, 3]),
        same_everywhere("hard", [1, 0, 0, 0], [0, 1, 2, 3]),
        same_everywhere("middle", [0, 0, 1, 1], [0, 1, 2, 3]),
        same_everywhere("easy", [1, 1, 1, 0], [0, 1, 2, 3]),
        same_everywhere("always", [1, 1, 1, 1], [0, 1, 2, 3]),
    ]
    row = rows_of(collect_evidence(problems, PLAN, draws=200))["knn"]
    gains = {name: (e.value, e.n) for name, e in row.by_difficulty.items()}
    assert gains == {"hard": (0.75, 1), "middle": (-0.5, 1), "easy": (0.25, 1)}
    assert {name: e.value for name, e in row.auroc_by_difficulty.items()} == {"hard": 1, "middle": 0, "easy": 1}


def test_a_score_that_is_length_has_no_auroc_without_it():
    # right candidates are the shorter ones, and the score is length alone
    tokens = [10, 17, 31, 40]
    problem = measured("a", [1, 1, 0, 0], [[0, 1, 2, 3]], tokens=tokens, scores=[[-t for t in tokens]])
    plan = Plan((Variant("shortest", "shortest"),))
    row = rows_of(collect_evidence([problem], plan, draws=50))["shortest"]
    assert (row.auroc.value, row.auroc_length_controlled.value) == (1.0, 0.5)


def test_tokens_and_seconds():
    problems = [
        same_everywhere("a", [1, 0, 0], [2, 0, 1], tokens=[5, 10, 15]),
        same_everywhere("b", [1, 0, 0], [1, 0, 2]),
    ]
    found = collect_evidence(problems, PLAN, draws=50)
    # 5 + 10 + 15 and 10 + 20 + 30
    assert (found.tokens, found.seconds) == (45, 2.0)
    row = rows_of(found)["knn"]
    assert (row.tokens, row.saved, row.pick_tokens, row.milliseconds) == (45, 0, 17.5, 1.0)


def test_one_problem_is_enough():
    found = collect_evidence([same_everywhere("a", [1, 0], [0, 1])], PLAN, draws=50)
    assert (found.held_out, found.halvings) == ((), None)
    assert rows_of(found)["knn"].accuracy.value == 1.0


def test_a_made_run_shows_what_was_put_into_it(measures, plan):
    found = collect_evidence(measures, plan, draws=300)
    # right candidates were made to be more certain and to activate fewer neurons
    rows = rows_of(found)
    assert rows["mean_logprob"].auroc.value > 0.9
    assert rows["min_act_residual"].auroc.value > 0.9
    assert found.counts["neurons at equal length, right minus wrong"].high < 0
    assert rows["first"].tokens < rows["knn, common length"].tokens < rows["knn"].tokens
    assert [row.accuracy.value for row in found.rows] == sorted((r.accuracy.value for r in found.rows), reverse=True)
