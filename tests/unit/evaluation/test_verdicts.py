"""Verdicts on disk: appended one by one, cut by a kill, damaged."""

import json

import pytest

from nad_agents.evaluation.verdicts import VERDICTS, ProblemVerdicts, append_verdicts, read_verdicts
from nad_agents.runs import RunError

CODE = ProblemVerdicts(
    "a/1", (True, False), (True, True), ("", "tests: wrong"), None, "made", outcomes=((0, 0), (-1, 1))
)
ANSWERS = ProblemVerdicts("b/2", (False, True), None, ("no final answer", ""), (None, "4"), "made")


def test_verdicts_come_back_as_they_were(tmp_path):
    assert read_verdicts(tmp_path) == {}
    append_verdicts(tmp_path, CODE)
    append_verdicts(tmp_path, ANSWERS)
    assert read_verdicts(tmp_path) == {"a/1": CODE, "b/2": ANSWERS}


def test_the_last_verdict_on_a_problem_counts(tmp_path):
    append_verdicts(tmp_path, CODE)
    again = ProblemVerdicts("a/1", (True, True), None, ("", ""), None, "made")
    append_verdicts(tmp_path, again)
    assert read_verdicts(tmp_path) == {"a/1": again}


def test_a_line_that_a_kill_cut_anywhere_is_scored_again_and_harms_no_other(tmp_path):
    append_verdicts(tmp_path, CODE)
    whole = (tmp_path / VERDICTS).read_bytes()
    append_verdicts(tmp_path, ANSWERS)
    both = (tmp_path / VERDICTS).read_bytes()
    for end in range(len(whole), len(both) - 1, 5):
        (tmp_path / VERDICTS).write_bytes(both[:end])
        assert read_verdicts(tmp_path) == {"a/1": CODE}
        append_verdicts(tmp_path, ANSWERS)
        assert read_verdicts(tmp_path) == {"a/1": CODE, "b/2": ANSWERS}


@pytest.mark.parametrize("line", ['{"problem": "a"}', "[1, 2]", "3", '{"unknown": 1}'])
def test_a_line_of_another_form_is_named(tmp_path, line):
    append_verdicts(tmp_path, CODE)
    with (tmp_path / VERDICTS).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(RunError, match=r"line 2: .*delete the file and score again"):
        read_verdicts(tmp_path)


def test_a_line_without_later_fields_is_read(tmp_path):
    values = json.loads(json.dumps(ANSWERS.__dict__))
    del values["outcomes"]
    (tmp_path / VERDICTS).write_text(json.dumps(values) + "\n")
    assert read_verdicts(tmp_path) == {"b/2": ANSWERS}
