"""Estimates as text, and the tables of a report."""

import math

from nad_agents.evaluation.statistics import Estimate
from nad_agents.evaluation.tables import (
    frontier_table,
    percent,
    plain,
    selector_table,
    short_table,
    to_markdown,
)


def test_estimates_as_text():
    assert percent(Estimate(0.4824, 0.41, 0.5512, 9)) == "48.2 [41.0, 55.1]"
    assert percent(Estimate(0.05, -0.01, 0.1, 9), signed=True) == "+5.0 [-1.0, +10.0]"
    assert percent(Estimate(-0.0001, -0.1, 0.0001, 9), signed=True) == "+0.0 [-10.0, +0.0]"
    assert plain(Estimate(0.5, 0.25, 0.75, 9), 1) == "0.5 [0.2, 0.8]"
    assert percent(Estimate(math.nan, math.nan, math.nan, 0)) == plain(Estimate(math.nan, 0, 0, 0)) == "-"


def test_tables_are_rectangular_and_bounded_by_oracle_and_random(evidence):
    for head, rows in (selector_table(evidence), short_table(evidence)):
        assert {len(row) for row in rows} == {len(head)}
        assert (rows[0][0], rows[-1][0]) == ("oracle (pass@4)", "random (Avg@4)")
    head, rows = frontier_table(evidence)
    tokens = [int(row[head.index("tokens generated")]) for row in rows]
    assert tokens == sorted(tokens)
    assert to_markdown((("a", "b"), [("1", "2")])) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_marks_tell_a_gain_alone_from_one_among_all(evidence):
    cells = {row[0]: row[2] for row in selector_table(evidence)[1]}
    for row in evidence.rows:
        stars = 2 if row.stands_alone else int(row.gain.excludes_zero)
        assert cells[row.label].count("*") == stars
