"""An interrupted run goes on, with its own settings and one writer at a time."""

import pytest

from nad_agents.exceptions import ConfigurationError
from nad_agents.runs import RecordedRun, RunError, RunWriter
from nad_agents.runs.reader import RECORDS
from tests.unit.builders import group_of_sets
from tests.unit.runs.builders import manifest, overwrite, record


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


def test_records_without_a_manifest_are_not_overwritten(two_records):
    folder, _ = two_records
    (folder / "run.json").unlink()
    with pytest.raises(RunError, match=r"no run\.json"):
        RunWriter(folder, manifest(), resume=True)
    assert (folder / RECORDS).stat().st_size > 100
