"""Nothing damaged goes unnoticed, and what is no run is refused."""

import json

import pytest

from nad_agents.runs import RecordedRun, RunError, RunWriter
from nad_agents.runs.reader import RECORDS
from tests.unit.runs.builders import manifest, overwrite, record


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


def test_problems_come_in_the_order_of_the_manifest_in_whatever_order_they_were_complete(tmp_path):
    with RunWriter(tmp_path, manifest()) as writer:
        for problem in ("c", "a", "b"):
            writer.append(record(problem))
    assert RecordedRun(tmp_path).problems == ["a", "b", "c"]
