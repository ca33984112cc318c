"""When losing candidates are dropped: stages, who goes on, and a live run against a replay of the whole one."""

from dataclasses import replace

import numpy as np
import pytest

from nad_agents import NADConfig
from nad_agents.neurons.comparison import ComparisonConfig
from nad_agents.pruning import PruningPolicy, pruning_stages
from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors import CallableSelector, get_selector, rank
from tests.unit.builders import make_group, make_rollout
from tests.unit.decoders import NEURONS, decoder


@pytest.mark.parametrize(
    ("config", "n", "stages"),
    [
        ({"pruning": "never"}, 8, ()),
        ({"pruning": "first_chunk"}, 8, (1,)),
        ({"pruning": "first_chunk", "keep": 3}, 8, (3,)),
        ({"pruning": "first_chunk", "keep": 8}, 8, ()),
        ({"pruning": "halving"}, 8, (4, 2, 1)),
        ({"pruning": "halving"}, 5, (3, 2, 1)),
        ({"pruning": "halving", "shrink": 4}, 64, (16, 4, 1)),
        ({"pruning": "halving", "keep": 3}, 8, (4, 3)),
        ({"pruning": "halving", "keep": 8}, 8, ()),
    ],
)
def test_stages(config, n, stages):
    assert pruning_stages(NADConfig(**config), n) == stages


def by_length(chunks):
    """Prefers the candidate whose text has most of the letter that stands for this chunk."""
    return CallableSelector(lambda group: [r.text.count("abc"[chunks - 1]) for r in group.rollouts], "letters")


def test_who_was_dropped_earlier_ranks_lower_and_keeps_the_score_of_then():
    group = make_group([make_rollout([[0]], text=text) for text in ("aab", "aaabb", "aaaabbb", "a", "aaaaabc")])
    policy = PruningPolicy(ComparisonConfig(compare_chunks=1), (3, 2, 1), by_length)
    assert sorted(policy.after_chunk(range(5), lambda: group)) == [0, 3]
    assert policy.decision.ranking == (4, 2, 1, 0, 3)
    assert not policy.final
    # the second stage looks at b: 2 has three, 1 two, 4 one
    assert policy.after_chunk([1, 2, 4], lambda: group) == [4]
    assert policy.decision.ranking == (2, 1, 4, 0, 3)
    # the third at c, which nobody has: equals are told apart by content
    dropped = policy.after_chunk([1, 2], lambda: group)
    assert len(dropped) == 1
    assert policy.final
    assert policy.decision.ranking[2:] == (4, 0, 3)
    assert policy.decision.scores.values.tolist() == [2, 0, 0, 1, 1]
    assert policy.after_chunk([2], lambda: pytest.fail("there is nothing to decide")) == ()


def test_a_finished_candidate_may_win_a_stage_and_is_not_dropped():
    group = make_group([make_rollout([[0]], text=text) for text in ("aaa", "aa", "a")])
    policy = PruningPolicy(ComparisonConfig(compare_chunks=1), (1,), by_length)
    assert sorted(policy.after_chunk([1, 2], lambda: group)) == [1, 2]
    assert policy.decision.keep == (0,)


def test_a_selector_that_needs_more_candidates_lets_the_last_ranking_decide():
    group = make_group([make_rollout([[0]], text="a" * count) for count in (1, 4, 3, 2)])
    picky = CallableSelector(lambda group: [r.text.count("a") for r in group.rollouts], "picky", min_candidates=3)
    policy = PruningPolicy(ComparisonConfig(compare_chunks=1), (2, 1), lambda _: picky)
    policy.after_chunk(range(4), lambda: group)
    assert policy.after_chunk([1, 2], lambda: group) == [2]
    assert policy.decision.keep == (1,)


class TestLive:
    config = NADConfig(pruning="halving", **NEURONS)

    def test_each_stage_decides_as_a_replay_of_the_whole_answers_does(self):
        nad = decoder()
        group = nad.sample("hello")
        live = nad.decode("hello", config=self.config)
        kept, order = list(range(5)), []
        for stage, count in enumerate((3, 2, 1), start=1):
            size = NEURONS["chunk_size"] * stage
            if all(len(group.rollouts[i]) < size for i in kept):
                break
            part = RolloutGroup([cut(group.rollouts[i], size) for i in kept], group.layout, group.prompt)
            comparison = ComparisonConfig(compare_chunks=stage, chunk_size=NEURONS["chunk_size"])
            ranking = [kept[i] for i in rank(get_selector("auto", comparison=comparison).score(part), part)]
            order = ranking[count:] + order
            kept = ranking[:count]
        assert list(live.ranking) == kept + order
        assert live.best.text == group.rollouts[live.winner].text
        assert live.usage.saved_tokens > 0

    def test_lengths_tell_when_each_was_dropped(self):
        live = decoder().decode("hello", config=self.config)
        tokens = sorted(c.tokens for c in live.candidates if c.finish_reason == "pruned")
        assert set(tokens) <= {16, 32, 48}
        assert tokens[:2] == [16, 16]

    def test_the_stream_begins_once_one_is_left(self):
        events = list(decoder(config=self.config).stream("hello"))
        text = "".join(event.text for event in events if type(event).__name__ == "TextDelta")
        assert text == events[-1].selection.text
        assert events[-1].selection.winner == next(e.winner for e in events if type(e).__name__ == "WinnerChosen")


def cut(rollout, size):
    """A rollout as it stood after so many tokens."""
    names = ("token_ids", "neurons", "logprobs", "entropies", "self_certainties", "confidences")
    return replace(rollout, **{name: getattr(rollout, name)[:size] for name in names})


def test_values_of_all_are_numbers_after_the_first_stage():
    group = make_group([make_rollout([[0]], text="a" * count) for count in (1, 2)])
    policy = PruningPolicy(ComparisonConfig(compare_chunks=1), (1,), by_length)
    policy.after_chunk(range(2), lambda: group)
    assert not np.isnan(policy.decision.scores.values).any()
