"""Extractors of final answers, and the majority vote."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nad_agents.exceptions import ConfigurationError
from nad_agents.selectors import Majority, rank
from nad_agents.selectors.voting import boxed, exact, last_number, stated
from tests.unit.builders import make_group, make_rollout


def group_of_texts(*texts, logprobs=None):
    chosen = logprobs or [-1.0] * len(texts)
    return make_group(
        make_rollout([[0]], tokens=[i], text=t, logprobs=p) for i, (t, p) in enumerate(zip(texts, chosen, strict=True))
    )


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{1} and then \boxed{ \frac{1}{2} }", r"\frac{1}{2}"),
        (r"\boxed{x^{2}} but \boxed{unfinished", "x^{2}"),
        (r"\boxed{}", None),
        ("nothing", None),
    ],
)
def test_boxed(text, answer):
    assert boxed(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("3 apples and 4 pears: 7", "7"),
        ("it costs 1,200.50 in all", "1200.5"),
        ("1200.5.", "1200.5"),
        ("x = -0.250", "-0.25"),
        ("100", "100"),
        ("1e3", "1000"),
        ("about 10, then stop", "10"),
        ("1e999999999", "1E+999999999"),
        ("-0.00", "0"),
        ("+007", "7"),
        ("1" * 50 + ".0", "1" * 50),
        ("h2o", None),
        ("", None),
    ],
)
def test_last_number(text, answer):
    assert last_number(text) == answer


def test_exact_ignores_white_space():
    assert exact(" a\n  b ") == "a b"
    assert exact(" \n") is None


def test_the_score_is_the_number_of_votes():
    group = group_of_texts(r"\boxed{4}", r"\boxed{5}", "no idea", r"hence \boxed{ 4 }", logprobs=[-3, -1, -0.5, -2])
    scores = Majority().score(group)
    assert scores.values.tolist() == [2, 1, 0, 2]
    assert rank(scores, group) == [3, 0, 1, 2]
    assert scores.details == {"answers": ["4", "5", None, "4"], "votes": {"4": 2, "5": 1}}


def test_ties_go_to_the_likelier_candidate():
    group = group_of_texts("4", "5", logprobs=[-2, -1])
    assert rank(Majority("last_number").score(group), group) == [1, 0]


def test_empty_candidates_have_no_vote():
    group = make_group([make_rollout([], text="4"), make_rollout([[0]], text="5")])
    scores = Majority("exact").score(group)
    assert np.array_equal(scores.values, [math.nan, 1], equal_nan=True)


def test_own_extractor():
    group = group_of_texts("yes, surely", "no", "yes")
    scores = Majority(lambda text: text.split(",")[0]).score(group)
    assert scores.values.tolist() == [2, 1, 2]
    with pytest.raises(ConfigurationError, match="the extractor returned 3; it must return a string, or None"):
        Majority(lambda text: 3).score(group)


def test_unknown_extractor():
    with pytest.raises(
        ConfigurationError, match="extractor='box' is unknown; choose one of boxed, last_number, stated, exact"
    ):
        Majority("box")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{1,200} in all", "1200"),
        (r"\boxed{x+1}", "x+1"),
        ("She has 5, then 7.\n#### 12", "12"),
        ("#### $1,080.00", "1080"),
        ("I have 5 apples.", None),
        ("The answer is: B. Because 5 is wrong", "B"),
        ("**Answer:** (c)", "C"),
        ("the answer is Beta", None),
        ("Answer: 3. No, wait. The answer is 4.", "4"),
        ("unanswered: 4", None),
        ("", None),
    ],
)
def test_a_stated_answer_is_said_to_be_one(text, answer):
    assert stated(text) == answer


def test_weighted_votes_count_by_agreement_and_log_probability():
    # candidate 0 is nearest to all others and likeliest; of three, its vote weighs as much as the last two together
    sets = [{0, 1, 2, 3}, {0, 1, 8, 9}, {2, 3, 6, 7}]
    group = make_group(
        [
            make_rollout([s], tokens=[i], text=rf"\boxed{{{answer}}}", logprobs=-1.0 - i)
            for i, (s, answer) in enumerate(zip(sets, (4, 5, 6), strict=True))
        ]
    )
    scores = Majority(weighted=True).score(group)
    # shares of rank: agreement 1, 1/4, 1/4; log-probability 1, 1/2, 0; and a half for each vote
    assert scores.values == pytest.approx([1.5, 0.875, 0.625])
    assert scores.details["votes"] == {"4": 1.5, "5": 0.875, "6": 0.625}
    assert Majority().score(group).values.tolist() == [1, 1, 1]


def test_cut_answers_have_no_weighted_vote():
    group = make_group(
        [
            make_rollout([[1]], tokens=[i], text=rf"\boxed{{{a}}}", finish_reason=end)
            for i, (a, end) in enumerate([(5, "length"), (5, "length"), (4, "stop")])
        ]
    )
    scores = Majority(weighted=True).score(group)
    assert rank(scores, group)[0] == 2
    assert scores.values[:2].tolist() == [-1, -1]
