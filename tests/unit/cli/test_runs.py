"""`nad select`, `nad report` and `nad bench` on recorded runs: what they print, how they fail."""

import io
import json
import shutil
from pathlib import Path

import pytest

from nad_agents.evaluation.verdicts import read_verdicts
from nad_agents.neurons.comparison import ComparisonConfig
from nad_agents.runs import RecordedRun
from nad_agents.runs.reader import RECORDS
from nad_agents.selectors import get_selector, rank
from tests.unit.evaluation.synthetic_runs import write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("made-run"), problems=16, n=4)


@pytest.fixture(scope="module")
def run(folder):
    return RecordedRun(folder)


def test_selecting_again_is_what_the_selector_says(nad, folder, run):
    options = (
        "--selector",
        "knn",
        "--option",
        "k=2",
        "--top-k-neurons",
        12,
        "--compare-chunks",
        2,
        "--similarity",
        "cosine",
    )
    code, out, err = nad("select", folder, *options, "--json")
    assert (code, err) == (0, "")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["problem"] for line in lines] == run.problems
    comparison = ComparisonConfig(similarity="cosine", top_k_neurons=12, compare_chunks=2)
    verdicts = read_verdicts(folder)
    for line in lines:
        group = run.group(line["problem"])
        scores = get_selector("knn", comparison=comparison, k=2).score(group)
        assert line["ranking"] == rank(scores, group)
        assert line["pick"] == line["ranking"][0]
        assert line["scores"] == scores.values.tolist()
        assert line["correct"] == verdicts[line["problem"]].correct[line["pick"]]


def test_selecting_tells_accuracy_and_gain(nad, folder):
    code, out, _ = nad("select", folder, "-s", "mean_logprob")
    lines = nad("select", folder, "-s", "mean_logprob", "--json")[1].splitlines()
    picks = [json.loads(line)["correct"] for line in lines]
    assert code == 0
    assert f"{100 * sum(picks) / len(picks):.1f} [" in out
    assert "(n=16, 95% intervals)" in out


def test_layers_are_a_range(nad, folder):
    code, out, _ = nad("select", folder, "-s", "knn", "--layers", "2:4", "--json")
    everything = nad("select", folder, "-s", "knn", "--json")[1]
    assert code == 0
    assert json.loads(out.splitlines()[0])["scores"] != json.loads(everything.splitlines()[0])["scores"]
    code, _, err = nad("select", folder, "--layers", "2-4")
    assert (code, "give first:end, such as 8:16" in err) == (2, True)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-s", "knm"], "did you mean 'knn'"),
        (["--option", "k"], "option 'k' is not name=value"),
        (["--option", "size=3"], "has no option 'size'"),
        (["--similarity", "dice"], "similarity='dice' is unknown"),
        (["--top-k-neurons", "21"], "20 neurons per token are recorded, fewer than top_k_neurons=21"),
        (["--top-k-neurons", "0"], "top_k_neurons=0 must be"),
    ],
)
def test_what_cannot_be_selected_is_said_in_a_line(nad, folder, args, message):
    code, out, err = nad("select", folder, *args)
    assert (code, out) == (2, "")
    assert message in err


def test_a_folder_without_a_run_says_how_to_record_one(nad, tmp_path):
    code, _, err = nad("select", tmp_path)
    assert code == 2
    assert "holds no recorded run" in err


def test_a_run_that_is_not_scored_says_how_to_score_it(nad, tmp_path):
    made = write_run(tmp_path / "run", problems=2, n=3)
    (made / "verdicts.jsonl").unlink()
    code, out, _ = nad("select", made)
    assert (code, "nad report" in out) == (0, True)


def test_a_report_of_answers_scores_them_itself(nad, tmp_path):
    made = write_run(tmp_path / "run", problems=2, n=3, kind="answer")
    (made / "verdicts.jsonl").unlink()
    code, out, _ = nad("report", made, "--selectors", "majority,mean_logprob", "-o", tmp_path / "shown")
    assert code == 0
    assert "2 problems, 3 candidates each" in out
    assert "Nothing tells the selectors apart: no candidate is right." in out
    figures = json.loads((tmp_path / "shown" / "figures.json").read_text(encoding="utf-8"))
    assert {row["label"] for row in figures["evidence"]["rows"]} >= {"majority", "mean_logprob"}
    assert (tmp_path / "shown" / "report.html").exists()
    assert len(read_verdicts(made)) == 2


def test_a_report_of_what_is_not_there(nad, folder):
    code, _, err = nad("report", folder, "--selectors", "majority,knn")
    assert (code, "cannot compare majority on this run" in err) == (2, True)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["own.jsonl", "--selectors", "knn,knm"], "cannot compare knm; choose of knn, medoid"),
        (["own.jsonl", "--temperature", "0"], "temperature"),
        (["own.jsonl", "--score", "rank"], "score='rank'"),
        (["missing.jsonl"], "cannot be read"),
        (["own.jsonl"], "Or record now (--no-judge), and judge later with `nad report`"),
    ],
)
def test_a_benchmark_that_cannot_work_is_refused_before_a_model_is_loaded(nad, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    # neither a Docker engine nor bubblewrap
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "own.jsonl").write_text(json.dumps({"prompt": "Write add.", "tests": "assert add(1, 2) == 3"}) + "\n")
    code, out, err = nad("bench", *args, "--out", tmp_path / "run", "--model", tmp_path / "no-model")
    assert (code, out) == (2, "")
    assert message in err
    assert not (tmp_path / "run").exists()


def test_help_names_the_commands(nad):
    out = nad("--help")[1]
    assert all(name in out for name in ("bench", "select", "report"))


class TestTable:
    rows = (["selector", "accuracy, %", "gain"], [["knn, without the shared start", "44.4 [27.8, 61.1]", "+8.7"]])

    def shown(self, **options):
        from rich.console import Console

        from nad_agents.cli.display import show_table

        console = Console(file=io.StringIO(), **options)
        show_table(console, self.rows, "a title")
        return console.file.getvalue()

    def test_is_whole_where_the_output_is_no_terminal(self):
        (line,) = [line for line in self.shown(width=40).splitlines() if line.startswith("knn")]
        assert line.split("  ") == ["knn, without the shared start", "44.4 [27.8, 61.1]", "+8.7"]

    def test_keeps_names_and_whole_figures_in_a_narrow_terminal(self):
        out = self.shown(width=42, force_terminal=True, no_color=True)
        assert "44.4 [27.8, 61.1]" in out
        assert "+8.7" not in out
        assert "knn, without the" in out
        assert "start" in out


@pytest.fixture
def places(folder, tmp_path, monkeypatch):
    """Folders and files that are no run, by the names that the tests give them."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("text")
    (tmp_path / "broken.jsonl").write_text("{broken")
    (tmp_path / "list.jsonl").write_text("[1]")
    for name in ("broken", "other", "no-records", "no-run-file"):
        shutil.copytree(folder, tmp_path / name)
    (tmp_path / "broken" / "run.json").write_text("{broken")
    (tmp_path / "other" / "run.json").write_text('{"format_version": 0}')
    (tmp_path / "no-records" / RECORDS).unlink()
    (tmp_path / "no-run-file" / RECORDS).write_bytes(b"")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("places")
@pytest.mark.parametrize("command", ["select", "report"])
@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("missing", "record one with `nad bench --out missing`"),
        ("empty", "record one with `nad bench --out empty`"),
        ("file", "file is a file; give the folder of a recorded run"),
        ("broken", "restore the file, or record again into another folder"),
        ("other", "use a matching nad-agents"),
        ("no-records", "give the folder of a recorded run"),
        ("no-run-file", "restore the file, or record again into another folder"),
    ],
)
def test_what_is_no_run_is_a_users_mistake(nad, command, place, message):
    code, out, err = nad(command, place)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.usefixtures("places")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["bench", "missing.jsonl", "--out", "run"], "No such file or directory; give a file of JSON lines"),
        (["bench", "empty", "--out", "run"], "Is a directory; give a file of JSON lines"),
        (["bench", "broken.jsonl", "--out", "run"], "line 1: Expecting property name"),
        (["bench", "list.jsonl", "--out", "run"], "line 1: a list where an object is expected; write a problem as"),
        (["bench", "good.jsonl", "--out", "file"], "file is a file; give the name of a folder"),
        (["bench", "good.jsonl", "--out", "file/run"], "the folder file/run cannot be made: Not a directory"),
        (["bench", "good.jsonl", "--out", "broken"], "broken holds a run already; resume it (--resume)"),
        (["code", "x", "--tests", "missing"], "missing cannot be read: No such file or directory; give a file of"),
    ],
)
def test_a_path_that_cannot_work_is_told_before_a_model_is_loaded(nad, args, message):
    Path("good.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}')
    code, _, err = nad(*args, "--model", "/no/such/model")
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.usefixtures("places")
def test_a_report_into_a_file_is_told_before_anything_is_compared(nad, folder):
    code, _, err = nad("report", folder, "--out", "file")
    assert (code, err) == (2, "error: file is a file; give the name of a folder\n")
