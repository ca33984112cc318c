"""What a watcher hears: every candidate's text, similarity so far, who is dropped, the ranking, each verdict."""

import numpy as np
import pytest

from nad_agents import Compared, Finished, NADConfig, Progress, Pruned, Ranking, Verified, WinnerChosen
from nad_agents.observer import stable_prefix_length
from nad_agents.testing import AcceptingVerifier
from tests.unit.decoders import NEURONS, decoder


def of(events, kind):
    return [event for event in events if isinstance(event, kind)]


@pytest.mark.parametrize("pruning", ["never", "first_chunk", "halving"])
def test_growth_makes_up_every_text_and_says_why_each_ended(pruning):
    events = list(decoder(config=NADConfig(pruning=pruning, **NEURONS)).stream("hello", watch=True))
    selection = events[-1].selection
    grown = [growth for event in of(events, Progress) for growth in event.growth]
    for candidate in selection.candidates:
        mine = [growth for growth in grown if growth.candidate == candidate.index]
        assert "".join(growth.text for growth in mine) == candidate.text
        assert (mine[-1].tokens, mine[-1].finish_reason) == (candidate.tokens, candidate.finish_reason)
        assert {growth.finish_reason for growth in mine[:-1]} <= {"running"}
    dropped = [i for event in of(events, Pruned) for i in event.dropped]
    assert sorted(dropped) == [c.index for c in selection.candidates if c.finish_reason == "pruned"]
    assert bool(dropped) is (pruning != "never")


def test_the_last_comparison_and_the_ranking_are_those_of_the_selection():
    events = list(decoder().stream("hello", watch=True))
    selection = events[-1].selection
    assert len(of(events, Compared)) >= 1
    last = of(events, Compared)[-1]
    np.testing.assert_array_equal(last.similarity, selection.similarity_matrix)
    assert list(last.activated_neurons) == [c.activated_neurons for c in selection.candidates]
    (ranking,) = of(events, Ranking)
    assert ranking.ranking == selection.ranking
    assert ranking.scores == tuple(c.score for c in selection.candidates)
    assert ranking.to_check == ()


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_verdicts_come_in_rank_order_before_the_winner(asynchronous):
    expected = decoder().decode("hello")
    verifier = AcceptingVerifier(expected.candidates[expected.ranking[2]].text)
    nad = decoder(verifier=verifier)
    if asynchronous:
        events = [event async for event in nad.astream("hello", watch=True)]
    else:
        events = list(nad.stream("hello", watch=True))
    kinds = [type(event) for event in events]
    first, chosen = kinds.index(Verified), kinds.index(WinnerChosen)
    assert kinds[first - 1] is Ranking
    assert set(kinds[first:chosen]) == {Verified}
    verified = of(events, Verified)
    assert [event.candidate for event in verified] == list(expected.ranking[:3])
    assert [event.verdict["passed"] for event in verified] == [False, False, True]
    assert of(events, Finished)[0].selection.winner == expected.ranking[2]


def test_who_does_not_watch_hears_what_it_did():
    events = list(decoder(verifier=AcceptingVerifier()).stream("hello"))
    assert not of(events, Compared) + of(events, Ranking) + of(events, Verified)
    assert all(event.growth == () for event in of(events, Progress))


def test_a_comparison_needs_recorded_neurons():
    config = NADConfig(selector="shortest", record=False)
    assert not of(decoder(config=config).stream("hello", watch=True), Compared)


def test_what_may_become_a_stop_string_is_not_certain():
    assert stable_prefix_length("one tw", ["two"]) == len("one ")
    assert stable_prefix_length("half \N{REPLACEMENT CHARACTER}", []) == len("half ")
