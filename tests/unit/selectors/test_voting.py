"""Extractors of final answers, and the majority vote."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nad_agents.exceptions import ConfigurationError
from nad_agents.selectors import Majority, rank
from nad_agents.selectors.voting import boxed, exact, last_number
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
    with pytest.raises(ConfigurationError, match="extractor='box' is unknown; choose one of boxed, last_number, exact"):
        Majority("box")
