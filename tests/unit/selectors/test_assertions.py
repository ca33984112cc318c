"""Selectors on assertions: the scores by hand, and what they refuse."""

import numpy as np
import pytest
from scipy.special import betaln

from nad_agents.exceptions import ConfigurationError
from nad_agents.selectors import B4, CodeT, NADFusion, get_selector, rank
from nad_agents.selectors.assertions import b4_scores, codet_scores, prune
from tests.unit.builders import SeenAssertions, WordAssertions, make_group, make_rollout

ROWS = np.array([[1, 1, 0], [1, 1, 0], [1, 1, 0], [1, 1, 1], [0, 0, 1], [0, 0, 0]], dtype=bool)


def test_codet_by_hand():
    # three programs pass the same two assertions; one passes all three
    assert codet_scores(ROWS) == pytest.approx([3**0.5 * 2] * 3 + [3, 1, 0])


def test_b4_by_hand():
    a, b = 2.0, 5.0
    found = b4_scores(ROWS, alpha=a, beta=b)
    # of the row (1, 1, 0): 3 programs, 2 assertions; the other rows have 2 of 6 there and 2 of 3 elsewhere
    expected = betaln(3 + a, 3 + 1) + betaln(2 + a, 1 + 1) + betaln(2 + 1, 4 + 1) + betaln(2 + 1, 1 + b)
    assert found[:3] == pytest.approx([expected] * 3)
    assert np.isfinite(b4_scores(np.zeros((3, 2), dtype=bool))).all()
    assert np.isfinite(b4_scores(np.ones((3, 2), dtype=bool))).all()


def test_programs_and_assertions_prune_one_another():
    # the best three fail the last assertion, without which two programs pass nothing
    programs, assertions = prune(ROWS)
    assert programs.tolist() == [True] * 4 + [False] * 2
    assert assertions.tolist() == [True, True, False]
    for rows in (np.zeros((3, 2), dtype=bool), np.ones((3, 2), dtype=bool)):
        programs, assertions = prune(rows)
        assert programs.all()
        assert assertions.all()


def of_texts(*texts):
    return make_group([make_rollout([[i]], tokens=[i], text=text, logprobs=-1.0 - i) for i, text in enumerate(texts)])


def test_programs_that_pass_the_same_assertions_support_one_another():
    group = of_texts("z", "x y", "x y", "x y", "x y z")
    runner = WordAssertions("x", "y", "z")
    scores = CodeT(runner=runner).score(group)
    assert rank(scores, group)[0] == 1  # the likeliest of the three
    assert scores.details == {"assertions": ["x", "y", "z"], "passed": [1, 2, 2, 2, 3]}
    assert scores.votes.tolist() == [[0, 0, 1], [1, 1, 0], [1, 1, 0], [1, 1, 0], [1, 1, 1]]
    rows = scores.votes.astype(bool)
    assert B4(runner=runner, alpha=2, beta=5).score(group).values == pytest.approx(b4_scores(rows, alpha=2, beta=5))


def test_pruned_candidates_rank_last_and_the_evidence_says_which_assertions_were_dropped():
    group = of_texts("z", "x y", "x y", "x y", "x y z", "", "none")
    scores = CodeT(runner=WordAssertions("x", "y", "z"), pruned=True).score(group)
    assert scores.values[1:5] == pytest.approx([4.0] * 4)  # without the last assertion, four programs pass the same two
    assert np.isnan(scores.values[[0, 5, 6]]).all()
    assert rank(scores, group)[:4] == [1, 2, 3, 4]
    assert scores.details["dropped"] == ["z"]


def test_without_assertions_agreement_ranks_and_the_evidence_says_so():
    class Nothing:
        def check(self, answers, *, prompt=""):
            return SeenAssertions((), [() for _ in answers])

    group = of_texts("a", "b", "c")
    scores = CodeT(runner=Nothing()).score(group)
    assert rank(scores, group) == rank(NADFusion().score(group), group)
    assert "no assertion could be written" in scores.details["note"]


def test_what_is_missing_or_out_of_bounds_is_said():
    with pytest.raises(ConfigurationError, match=r"b4 runs .* give selector_options=\{'runner': nad_sandbox.Assertion"):
        get_selector("b4")
    with pytest.raises(ConfigurationError, match="b4: beta=-1"):
        get_selector("b4", runner=WordAssertions(), beta=-1)
