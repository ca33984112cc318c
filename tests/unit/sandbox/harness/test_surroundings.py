"""What a call of an observed program leaves in its working folder is told, and undone before the next call."""

import pytest
from nad_sandbox.harness.surroundings import LONGEST_FILE, WorkingFolder


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text("one two")
    return tmp_path


def test_written_new_and_removed_files(files):
    (files / "other.txt").write_text("kept")
    folder = WorkingFolder()
    assert folder.changes() == {}
    (files / "words.txt").write_text("three")
    (files / "new.txt").write_text("new")
    (files / "other.txt").unlink()
    assert folder.changes() == {"new.txt": "new", "other.txt": None, "words.txt": "three"}
    assert {file.name: file.read_text() for file in files.iterdir()} == {"other.txt": "kept", "words.txt": "one two"}
    assert folder.changes() == {}


def test_a_file_too_long_to_keep_is_left_as_it_is(files):
    (files / "long.txt").write_text("x" * (LONGEST_FILE + 1))
    folder = WorkingFolder()
    with (files / "long.txt").open("a") as file:
        file.write("y")
    (files / "words.txt").write_text("three")
    assert folder.changes() == {"words.txt": "three"}
    assert (files / "long.txt").read_text() == "x" * (LONGEST_FILE + 1) + "y"
