"""`nad bench` as a user runs it: default model, a kill in the middle, resuming, the sandbox, selecting, a report."""

import json
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from nad_agents.evaluation.evidence import collect_evidence
from nad_agents.evaluation.measures import measure_run
from nad_agents.evaluation.plan import Plan
from nad_agents.evaluation.verdicts import read_verdicts
from nad_agents.runs import RecordedRun

PROBLEMS = [
    {
        "task_id": "own/double",
        "prompt": 'def double(x: int) -> int:\n    """Return twice x.\n\n    >>> double(4)\n    8\n    """\n',
        "entry_point": "double",
        "test": "def check(candidate):\n    assert candidate(3) == 6\n    assert candidate(-1) == -2\n",
    },
    {
        "task_id": "own/first",
        "prompt": "Write a Python function first(items) that returns the first element of a list.",
        "tests": "assert first([5, 6]) == 5\nassert first('ab') == 'a'\n",
    },
    {"task_id": "own/sum", "question": "What is 2 + 3?", "answer": "#### 5"},
]
SETTINGS = ["--n", "3", "--workers", "2", "--max-new-tokens", "40", "--seed", "3", "--dtype", "float32"]


@contextmanager
def nad(*args):
    """A `nad` command as a process, which ends with the block."""
    environment = {**os.environ, "COLUMNS": "140", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "nad_agents", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def finished(*args):
    with nad(*args) as process:
        out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    return out, err


def killed_after_the_first_problem(*args):
    told = []
    with nad(*args) as process:
        for line in process.stderr:
            told.append(line)
            if line.startswith("1/3"):
                process.kill()
                break
        process.communicate()
    assert process.returncode == -9, "".join(told)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run that was killed after its first problem, resumed and judged; with the bytes that the kill left."""
    folder = tmp_path_factory.mktemp("bench")
    tasks, out = folder / "own.jsonl", folder / "run"
    tasks.write_text("".join(json.dumps(problem) + "\n" for problem in PROBLEMS))
    command = ["bench", tasks, "--out", out, *SETTINGS]
    killed_after_the_first_problem(*command)
    left = (out / "records.nad").read_bytes()
    kept = RecordedRun(out)
    assert 1 <= len(kept) < 3
    # as if the kill had come while the next record was being written
    with (out / "records.nad").open("ab") as file:
        file.write(left[8:400])
    told, progress = finished(*command, "--resume")
    assert not re.search(r"^1/3", progress, re.MULTILINE)
    assert "3/3" in progress
    return out, left[: kept.incomplete], told


def test_a_killed_run_goes_on_where_it_was(recorded):
    out, left, _ = recorded
    assert (out / "records.nad").read_bytes().startswith(left)
    run = RecordedRun(out)
    run.check()
    assert sorted(run.problems) == ["own/double", "own/first", "own/sum"]
    assert run.manifest.model["parameters"] > 10**8
    for name in run.problems:
        group = run.group(name)
        assert len(group) == 3
        assert all(0 < len(r) <= 40 and r.neurons.shape == (len(r), 500) for r in group.rollouts)


def test_candidates_are_judged_in_the_sandbox(recorded):
    out, _, told = recorded
    verdicts = read_verdicts(out)
    assert set(verdicts) == set(RecordedRun(out).problems)
    code, answers = verdicts["own/double"], verdicts["own/sum"]
    assert code.scorer.startswith(("DockerSandbox", "BubblewrapSandbox"))
    assert len(code.correct) == len(code.examples) == len(code.outcomes) == 3
    # a candidate that passes the tests does what the example says
    assert all(example for right, example in zip(code.correct, code.examples, strict=True) if right)
    assert all(bool(right) is not bool(reason) for right, reason in zip(code.correct, code.reasons, strict=True))
    assert answers.outcomes is None
    assert answers.correct == tuple(answer == "5" for answer in answers.answers)
    assert "oracle (pass@3)" in told
    assert "random (Avg@3)" in told


def test_selecting_again_without_the_model(recorded):
    out, _, _ = recorded
    started = time.perf_counter()
    told, _ = finished("select", out, "--top-k-neurons", "300", "--compare-chunks", "1", "--json")
    assert time.perf_counter() - started < 20
    lines = [json.loads(line) for line in told.splitlines()]
    verdicts = read_verdicts(out)
    assert len(lines) == 3
    assert all(line["correct"] == verdicts[line["problem"]].correct[line["pick"]] for line in lines)


def test_a_report_by_several_workers_has_the_figures_of_one(recorded, tmp_path):
    run = RecordedRun(recorded[0])
    finished("report", run.folder, "--out", tmp_path, "--workers", "2", "--selectors", "knn,mean_logprob,behaviour")
    assert "own.jsonl: 3 of 3 problems" in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert (tmp_path / "report.html").stat().st_size > 50_000
    rows = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))["evidence"]["rows"]
    plan = Plan.for_run(run, selectors=["knn", "mean_logprob", "behaviour"])
    alone = {row.label: row for row in collect_evidence(measure_run(run, plan), plan).rows}
    assert {row["label"] for row in rows} == alone.keys()
    for row in rows:
        assert row["accuracy"]["value"] == alone[row["label"]].accuracy.value
        assert (row["tokens"], row["pick_tokens"]) == (alone[row["label"]].tokens, alone[row["label"]].pick_tokens)
