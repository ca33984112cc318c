"""Runs on disk: everything comes back, nothing damaged goes unnoticed, an interrupted run goes on."""

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nad_agents.exceptions import ConfigurationError
from nad_agents.runs import ProblemRecord, RecordedRun, RunError, RunManifest, RunWriter
from nad_agents.runs.neuron_codec import decode_neurons, encode_neurons
from nad_agents.runs.reader import RECORDS
from nad_agents.runs.records import SIGNALS
from tests.unit.builders import LAYOUT, group_of_sets, groups, make_group, make_rollout


def manifest(**changes):
    values = {
        "created": "2026-01-01T00:00:00+00:00",
        "task": {"file": "own.jsonl", "sha256": "0"},
        "problems": ("a", "b", "c"),
        "model": {"name": "tiny"},
        "sampling": {"n": 2, "seed": 0},
        "config": {"top_k": 5},
    }
    return RunManifest(**{**values, **changes})


def record(problem, group=None):
    return ProblemRecord(problem, group or group_of_sets([1, 2, 3], [2, 3, 4, 50]), seed=7, task={"answer": "4"})


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


@st.composite
def recorded_neurons(draw):
    """Rows of distinct neurons, some padded at the end."""
    k = draw(st.integers(1, 300))
    n = draw(st.integers(k, 2000))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    rows = np.array([rng.permutation(n)[:k] for _ in range(draw(st.integers(0, 12)))], dtype=np.int32).reshape(-1, k)
    if draw(st.booleans()):
        rows[np.arange(k) >= rng.integers(0, k + 1, size=(len(rows), 1))] = -1
    return rows


@given(recorded_neurons() | hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9)))
@settings(deadline=None)
def test_the_codec_gives_back_every_array(neurons):
    back = decode_neurons(encode_neurons(neurons))
    assert back.dtype == np.int32
    assert back.shape == neurons.shape
    np.testing.assert_array_equal(back, neurons)


def test_a_large_number_takes_no_memory_for_all_smaller_ones():
    neurons = np.array([[2**24, 5], [7, 2**31 - 1]], dtype=np.int32)
    tracemalloc.start()
    try:
        back = decode_neurons(encode_neurons(neurons))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(back, neurons)
    assert peak < 2**24


@pytest.mark.parametrize("padding", [(1,), (2, 0), (0, 3, 0)])
def test_lengths_of_padded_rows_are_not_taken_for_neurons(padding):
    """The lengths take two bytes a row, as one neuron does: as much padding as rows must not look like full rows."""
    k = 4
    rows = np.array([[*range(10 * i, 10 * i + k - n), *[-1] * n] for i, n in enumerate(padding)], dtype=np.int32)
    np.testing.assert_array_equal(decode_neurons(encode_neurons(rows)), rows)


def test_the_codec_is_smaller_than_two_bytes_a_neuron():
    """500 of 30 000 neurons a token, some used much more often than others, no token like another."""
    rng = np.random.default_rng(0)
    likely = np.log(np.arange(1, 30_001)) * -1.2
    # the largest of log-weight + Gumbel noise: a weighted draw without replacement
    scores = rng.permutation(likely) + rng.gumbel(size=(200, 30_000))
    rows = np.argsort(-scores, axis=1)[:, :500].astype(np.int32)
    data = encode_neurons(rows)
    np.testing.assert_array_equal(decode_neurons(data), rows)
    assert len(data) / len(rows) < 500 * 2


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
    assert run.head("a")["seed"] == 7
    assert run.head("a")["task"] == {"answer": "4"}


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
    assert sum(s["name"].startswith("neurons/") for s in RecordedRun(tmp_path).head("a")["sections"]) == 4
    assert_same(group, RecordedRun(tmp_path).group("a"))


@pytest.fixture
def two_records(tmp_path):
    with RunWriter(tmp_path, manifest()) as writer:
        writer.append(record("a"))
        first = (tmp_path / RECORDS).stat().st_size
        writer.append(record("b", group_of_sets([7, 8], [8, 9])))
    return tmp_path, first


def overwrite(path, data):
    """In place, since a file that is emptied and written again waits for the disk."""
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()


def test_a_run_cut_at_any_byte_loses_only_the_last_problem(two_records):
    folder, first = two_records
    path = folder / RECORDS
    whole = path.read_bytes()
    # every byte of the header, and of the long body a prime step
    for end in [*range(first, first + 64), *range(first + 64, len(whole), 7)]:
        overwrite(path, whole[:end])
        run = RecordedRun(folder)
        assert run.problems == ["a"]
        assert run.incomplete == (first if end > first else None)
        if end > first:
            with pytest.raises(RunError, match=rf"byte {first} \(problem 'b'\).*resume"):
                run.check()
    # and it goes on from there
    with RunWriter(folder, manifest(), resume=True) as writer:
        assert writer.lost == first
        assert writer.done == {"a"}
        writer.append(record("b", group_of_sets([7, 8], [8, 9])))
    assert path.read_bytes() == whole


def test_a_tail_of_zeros_is_an_interrupted_write(two_records):
    folder, first = two_records
    path = folder / RECORDS
    path.write_bytes(path.read_bytes()[:first] + bytes(100))
    assert RecordedRun(folder).incomplete == first
    with RunWriter(folder, manifest(), resume=True) as writer:
        assert writer.lost == first
    assert path.stat().st_size == first


def test_a_last_record_with_holes_is_recorded_again(two_records):
    folder, first = two_records
    path = folder / RECORDS
    data = bytearray(path.read_bytes())
    data[-30:] = bytes(30)
    path.write_bytes(data)
    with RunWriter(folder, manifest(), resume=True) as writer:
        assert writer.lost == first
        assert writer.done == {"a"}


def test_a_changed_byte_is_noticed_and_named_wherever_it_is(two_records):
    folder, _ = two_records
    path = folder / RECORDS
    whole = path.read_bytes()
    # every byte of the headers, and of the long bodies a prime step, so that all offsets within a word are met
    for place in [*range(64), *range(64, len(whole), 5)]:
        changed = bytearray(whole)
        changed[place] ^= 0x10
        overwrite(path, changed)
        with pytest.raises(RunError) as caught:
            RecordedRun(folder).check()
        message = str(caught.value)
        assert "\n" not in message
        if place >= 8:
            assert "byte" in message
            assert any(name in message for name in ("'a'", "'b'", "first problem"))


def test_damage_in_the_middle_is_no_interruption(two_records):
    folder, first = two_records
    path = folder / RECORDS
    data = bytearray(path.read_bytes())
    data[first - 5] ^= 1
    path.write_bytes(data)
    run = RecordedRun(folder)
    with pytest.raises(RunError, match="neurons/0' of problem 'a' at byte"):
        run.group("a")
    assert len(run.group("b")) == 2, "what is intact stays readable"


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"sampling": {"n": 2, "seed": 1}}, r"sampling\.seed: 0, 1"),
        ({"model": {"name": "other"}}, r"model\.name: 'tiny', 'other'"),
        ({"problems": ("a",)}, "problems: 3, 1"),
    ],
)
def test_a_run_is_resumed_with_its_own_settings_only(two_records, changes, match):
    folder, _ = two_records
    with pytest.raises(ConfigurationError, match=match):
        RunWriter(folder, manifest(**changes), resume=True)
    with pytest.raises(ConfigurationError, match="--resume"):
        RunWriter(folder, manifest())
    with RunWriter(folder, manifest(versions={"torch": "9"}, created="2027-01-01"), resume=True) as writer:
        assert writer.done == {"a", "b"}
        with pytest.raises(ConfigurationError, match="'a' is in the run"):
            writer.append(record("a"))


def test_one_writer_at_a_time_while_others_read(tmp_path):
    with RunWriter(tmp_path, manifest()) as writer:
        with pytest.raises(RunError, match="another process is recording"):
            RunWriter(tmp_path, manifest(), resume=True)
        writer.append(record("a"))
        assert RecordedRun(tmp_path).problems == ["a"]
    RunWriter(tmp_path, manifest(), resume=True).close()


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="holds no recorded run"):
        RecordedRun(tmp_path)
    with RunWriter(tmp_path, manifest()) as writer:
        writer.append(record("a"))
    with pytest.raises(RunError, match="no problem 'x' among its 1, such as a"):
        RecordedRun(tmp_path).group("x")
    path = tmp_path / "run.json"
    whole = json.loads(path.read_text())
    for changed, match in (
        ({**whole, "format_version": 99}, "format version 99, this version reads 2"),
        ({**whole, "problems": "a"}, "problems"),
    ):
        path.write_text(json.dumps(changed))
        with pytest.raises(RunError, match=match):
            RecordedRun(tmp_path)
    path.write_text(json.dumps(whole))
    for header, match in ((b"NADRUN09", "format version 09"), (b"PK\3\4....", "no run file")):
        (tmp_path / RECORDS).write_bytes(header)
        with pytest.raises(RunError, match=match):
            RecordedRun(tmp_path)
    (tmp_path / RECORDS).unlink()
    with pytest.raises(RunError, match="cannot be read"):
        RecordedRun(tmp_path)


def test_records_without_a_manifest_are_not_overwritten(two_records):
    folder, _ = two_records
    (folder / "run.json").unlink()
    with pytest.raises(RunError, match=r"no run\.json"):
        RunWriter(folder, manifest(), resume=True)
    assert (folder / RECORDS).stat().st_size > 100
