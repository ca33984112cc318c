"""What is written comes back, whatever the candidates are."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nad_agents.runs import RecordedRun, RunWriter
from nad_agents.runs.records import SIGNALS
from tests.unit.builders import LAYOUT, groups, make_group, make_rollout
from tests.unit.runs.builders import manifest, record


def assert_same(group, other):
    assert other.layout == group.layout
    assert other.prompt == group.prompt
    assert len(other) == len(group)
    for mine, theirs in zip(group.rollouts, other.rollouts, strict=True):
        assert (mine.index, mine.text, mine.finish_reason) == (theirs.index, theirs.text, theirs.finish_reason)
        for name in SIGNALS:
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
            assert getattr(mine, name).dtype == getattr(theirs, name).dtype
        width = mine.neurons.shape[1]
        np.testing.assert_array_equal(theirs.neurons[:, :width], mine.neurons)
        assert (theirs.neurons[:, width:] == -1).all()


@given(st.lists(groups(), min_size=1, max_size=3))
@settings(deadline=None, max_examples=15)
def test_a_run_gives_back_what_was_written(tmp_path_factory, written):
    folder = tmp_path_factory.mktemp("run")
    with RunWriter(folder, manifest()) as writer:
        for name, group in zip("abc", written, strict=False):
            writer.append(record(name, group))
    run = RecordedRun(folder)
    assert run.problems == list("abc"[: len(written)])
    run.check()
    for name, group in zip("abc", written, strict=False):
        assert_same(group, run.group(name))
        assert all(r.neurons.shape == (len(r), 0) for r in run.group(name, neurons=False).rollouts)
    assert run.header("a")["seed"] == 7
    assert run.header("a")["task"] == {"answer": "4"}


def test_text_that_is_no_unicode_survives(tmp_path):
    group = make_group([make_rollout([[1]], text="half \ud83d, null \0, line\u2028end")])
    with RunWriter(tmp_path, manifest()) as writer:
        writer.append(record("a", group))
    assert RecordedRun(tmp_path).group("a").rollouts[0].text == group.rollouts[0].text


def test_many_tokens_are_cut_into_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("nad_agents.runs.records.BLOCK_TOKENS", 7)
    rng = np.random.default_rng(0)
    rows = [[rng.permutation(LAYOUT.n_neurons)[:5] for _ in range(n)] for n in (10, 0, 14)]
    group = make_group(make_rollout(row) for row in rows)
    with RunWriter(tmp_path, manifest()) as writer:
        writer.append(record("a", group))
    assert sum(s["name"].startswith("neurons/") for s in RecordedRun(tmp_path).header("a")["sections"]) == 4
    assert_same(group, RecordedRun(tmp_path).group("a"))
